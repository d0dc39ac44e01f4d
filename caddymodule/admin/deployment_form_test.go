package admin

import (
	"bytes"
	"mime"
	"mime/multipart"
	"testing"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

func TestEncodeDeployment(t *testing.T) {
	body, kind, err := EncodeDeployment([]byte("module"), []byte("{}"), make([]artifact.Signature, 1))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(kind)
	if err != nil {
		t.Fatal(err)
	}
	form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(1 << 20)
	if err != nil || len(form.File["module"]) != 1 || len(form.File["settings"]) != 1 ||
		len(form.File["signatures"]) != 1 {
		t.Errorf("got %+v, %v", form, err)
	}
}
