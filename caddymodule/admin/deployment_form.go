package admin

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// EncodeDeployment returns the body of a deployment with a module, and its content type. Settings and signatures are
// optional.
func EncodeDeployment(
	wasm, settings []byte, signatures []artifact.Signature,
) (body []byte, contentType string, err error) {
	var list []byte
	if len(signatures) > 0 {
		if list, err = artifact.FormatSignatures(signatures); err != nil {
			return nil, "", err
		}
	}
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for _, p := range []struct {
		name, kind string
		content    []byte
	}{
		{"module", "application/wasm", wasm},
		{"settings", "application/json", settings},
		{"signatures", "application/json", list},
	} {
		if p.content == nil {
			continue
		}
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, p.name, p.name)},
			"Content-Type":        {p.kind},
		})
		if err == nil {
			_, err = part.Write(p.content)
		}
		if err != nil {
			return nil, "", err
		}
	}
	if err := form.Close(); err != nil {
		return nil, "", err
	}
	return b.Bytes(), form.FormDataContentType(), nil
}
