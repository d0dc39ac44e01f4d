package django

import (
	"os"
	"strings"
	"testing"
)

// docs/django-examples.md shows the files that the tests run.
func TestDocsShowTheExamples(t *testing.T) {
	docs, err := os.ReadFile("../../docs/django-examples.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"chat", "notifications", "tokens"} {
		text, err := os.ReadFile("../../examples/django/" + name + "/Caddyfile")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(docs), "```caddyfile\n"+string(text)+"```\n") {
			t.Errorf("docs/django-examples.md does not show examples/django/%s/Caddyfile as it is", name)
		}
	}
	consumer, err := os.ReadFile("../../examples/django/chat/chat/consumers.py")
	if err != nil {
		t.Fatal(err)
	}
	if _, class, _ := strings.Cut(string(consumer), "class "); !strings.Contains(string(docs), "class "+class) {
		t.Error("docs/django-examples.md does not show the consumer of the chat as it is")
	}
}
