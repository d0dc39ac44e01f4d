package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
)

// tabTo presses Tab until an element has the focus.
func (d *dialog) tabTo(selector string) {
	d.Helper()
	focused := fmt.Sprintf(`document.activeElement?.matches(%q) === true`, selector)
	for range 80 {
		if d.page.Holds(d, focused) {
			return
		}
		d.page.Do(d, chromedp.KeyEvent(kb.Tab))
	}
	d.Fatalf("80 presses of Tab do not reach %s", selector)
}

// keys presses keys, one after another.
func (d *dialog) keys(keys ...string) {
	d.Helper()
	for _, key := range keys {
		d.page.Do(d, chromedp.KeyEvent(key))
	}
}

// ready waits until the button of the dialog can be pressed.
func (d *dialog) ready(label string) {
	d.Helper()
	d.page.Wait(d, soon, fmt.Sprintf(
		`(b => b.textContent === %q && !b.disabled)(document.querySelector("#dialog-confirm"))`, label))
}

// done waits for the end of the dialog, with a text above the page.
func (d *dialog) done(said string) {
	d.Helper()
	d.page.Wait(d, soon, fmt.Sprintf(`!document.querySelector("#dialog").open && question === null
		&& document.querySelector("#said").textContent.includes(%q)`, said))
}

// By keys alone, an operator deploys a module from an allowed registry: a refused reference is explained in the dialog,
// which stays open, and the next one is deployed, as a canary or to all groups. The dialog is accessible on a desktop
// and on a phone, on light and dark screens.
func TestConsoleDeploysFromARegistry(t *testing.T) {
	address := registry.New().Start(t)
	wasm, err := os.ReadFile("../../plugins/testdata/filter.wasm")
	if err != nil {
		t.Fatal(err)
	}
	ref, err := oci.ParseReference("oci://" + address + "/plugins/redact:2.0")
	if err == nil {
		ref, err = new(oci.Registry).Push(t.Context(), ref, wasm, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	tag, _, _ := strings.Cut(ref.String(), "@")

	s, _ := consoleSite(t, "", "registries "+address+"/plugins/")
	source := axe(t)
	page := Open(t)
	d := &dialog{t, page}
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL+"edgerelay/"))
	page.Wait(t, soon, `document.querySelector("#who").textContent === "no login · may act"
		&& document.querySelector("[data-plugin=redact]")`)

	const pull = "#plugin-tools [data-do=pull]"
	d.tabTo("[data-plugin=redact]")
	d.keys(kb.Enter)
	d.focused("#h-plugin")
	page.Wait(t, soon, `document.querySelector("#plugin-versions").textContent.includes("Never deployed")`)
	d.tabTo(pull)
	d.keys(kb.Enter)
	d.opens("Deploy redact from a registry", "Write a reference that begins with oci://"+address+"/plugins/.")
	d.focused("#dialog [name=ref]")
	if !page.Holds(t, `document.querySelector("#dialog-confirm").disabled`) {
		t.Error("the dialog can be confirmed without a reference")
	}
	d.keys("oci://" + address + "/plugins-of-others/redact:2.0")
	d.ready("Deploy")
	d.keys(kb.Enter)
	page.Wait(t, soon, `document.querySelector("#dialog").open && !document.querySelector("#dialog-failure").hidden
		&& document.querySelector("#dialog-failure").textContent.includes("Not done: this repository is not allowed")`)

	// With the failure on the screen, and with the effect.
	shots := os.Getenv("EDGERELAY_SCREENSHOTS")
	look := func(name string) {
		t.Helper()
		for _, views := range [][]view{someViews, moreViews} {
			for _, v := range views {
				checkAccessibility(t, page, source, "dialog, "+name, allRules, []view{v})
				inside := `(r => r.left >= 0 && r.right <= innerWidth && r.top >= 0 && r.bottom <= innerHeight)` +
					`(document.querySelector("#dialog").getBoundingClientRect())`
				if !page.Holds(t, inside) {
					t.Errorf("dialog, %s, %v: the dialog is larger than the screen", name, v)
				}
				if shots != "" {
					file := fmt.Sprintf("console-pull-%s-%d-%s.png", name, v.width, v.scheme)
					page.Screenshot(t, filepath.Join(shots, file))
				}
			}
		}
		someViews[0].apply(t, page)
	}
	look("refused")

	d.tabTo("#dialog [name=ref]")
	d.keys(strings.Repeat(kb.Backspace, 200), tag)
	d.tabTo("#dialog [name=canary]")
	d.keys(kb.ArrowDown, kb.ArrowDown)
	d.tabTo("#dialog [name=message]")
	d.keys("a test")
	d.opens("Deploy redact from a registry",
		"This node pulls "+tag+" with its signatures. The module is tried on 10% of the groups")
	d.ready("Try on 10%")
	look("effect")
	d.tabTo("#dialog-confirm")
	d.keys(kb.Enter)
	d.done("redact: " + tag + " is tried on 10%.")
	page.Wait(t, soon, `document.querySelector("#plugin-facts").textContent.includes("running on 10%")`)
	if !page.Holds(t, `document.querySelector("#plugin-tools [data-do=pull]") === null`) {
		t.Error("a second deployment is offered beside a running canary")
	}

	d.tabTo("#plugin-tools [data-do=rollback]")
	d.keys(kb.Enter)
	d.ready("Take back")
	d.tabTo("#dialog-confirm")
	d.keys(kb.Enter)
	d.done("rolled back")
	page.Wait(t, soon, `document.querySelector("`+pull+`") !== null`)

	// Esc deploys nothing, and the focus returns to the button.
	d.tabTo(pull)
	d.keys(kb.Enter)
	d.focused("#dialog [name=ref]")
	d.keys(tag)
	d.ready("Deploy")
	d.keys(kb.Escape)
	page.Wait(t, soon, `question === null`)
	d.focused(pull)
	d.keys(kb.Enter)
	d.focused("#dialog [name=ref]")
	d.keys(tag)
	d.ready("Deploy")
	d.keys(kb.Enter)
	d.done("redact: " + tag + " is deployed.")
	for part, text := range map[string]string{"#plugin-facts": ref.String(), "#plugin-versions": tag} {
		page.Wait(t, soon, fmt.Sprintf(`document.querySelector(%q).textContent.includes(%q)`, part, text))
	}
	checkAccessibility(t, page, source, "console with a module from a registry", allRules, someViews)
	if shots != "" {
		page.Screenshot(t, filepath.Join(shots, "console-pulled-390.png"))
		someViews[0].apply(t, page)
		page.Screenshot(t, filepath.Join(shots, "console-pulled-1280.png"))
	}
	if problems := page.Problems(); len(problems) != 1 || !strings.Contains(problems[0], "403") {
		t.Errorf("the browser's console has more, or less, than the refused reference: %q", problems)
	}
}
