package ws

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

const accepted = "permessage-deflate; client_no_context_takeover"

var whole, notKept = relay.NewWindow(15, true), relay.NewWindow(15, false)

// Browsers and libraries send the first offers; the others go through RFC 7692 section 7.1.
var offers = []struct {
	name, offer, answer string
	window              relay.Window
}{
	{"Chromium", "permessage-deflate; client_max_window_bits", accepted, whole},
	{"Firefox", "permessage-deflate", accepted, whole},
	{"websockets of Python", "permessage-deflate; client_max_window_bits=12", accepted, whole},
	{"aiohttp", "permessage-deflate; client_max_window_bits", accepted, whole},
	{
		"gorilla", "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
		accepted + "; server_no_context_takeover", notKept,
	},
	{"Safari before 15", "x-webkit-deflate-frame", "", 0},
	{"none", "", "", 0},
	{"another extension", "permessage-bzip2", "", 0},
	{"the second offer", "permessage-bzip2; level=9, permessage-deflate", accepted, whole},
	{
		"the client's order", "permessage-deflate; server_max_window_bits=10, permessage-deflate",
		accepted + "; server_max_window_bits=10", relay.NewWindow(10, true),
	},
	{
		"a fallback after an offer that is invalid",
		"permessage-deflate; server_max_window_bits=16, permessage-deflate",
		accepted, whole,
	},
	{
		"the whole window", "permessage-deflate; server_max_window_bits=15",
		accepted + "; server_max_window_bits=15", whole,
	},
	{
		"a small window", "permessage-deflate; server_max_window_bits=8; server_no_context_takeover",
		accepted + "; server_no_context_takeover; server_max_window_bits=8", relay.NewWindow(8, false),
	},
	{
		"a quoted value", `permessage-deflate; server_max_window_bits="15"`,
		accepted + "; server_max_window_bits=15", whole,
	},
	{
		"an escaped value", `permessage-deflate; server_max_window_bits="1\5"`,
		accepted + "; server_max_window_bits=15", whole,
	},
	{"space", " \tpermessage-deflate \t;\tclient_max_window_bits = 9 ", accepted, whole},
	{"no space", "permessage-deflate;client_max_window_bits=15;client_no_context_takeover", accepted, whole},
	{"empty elements", ",, permessage-deflate,", accepted, whole},
	{"no value of the server's bits", "permessage-deflate; server_max_window_bits", "", 0},
	{"7 bits", "permessage-deflate; server_max_window_bits=7", "", 0},
	{"16 bits", "permessage-deflate; client_max_window_bits=16", "", 0},
	{"a leading zero", "permessage-deflate; client_max_window_bits=09", "", 0},
	{"a sign", "permessage-deflate; client_max_window_bits=+9", "", 0},
	{"many digits", "permessage-deflate; client_max_window_bits=99999999999999999999999", "", 0},
	{"no number", "permessage-deflate; server_max_window_bits=x", "", 0},
	{"a value of a flag", "permessage-deflate; server_no_context_takeover=1", "", 0},
	{"an empty value of a flag", `permessage-deflate; client_no_context_takeover=""`, "", 0},
	{"twice the same flag", "permessage-deflate; client_no_context_takeover; client_no_context_takeover", "", 0},
	{"twice the same bits", "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", "", 0},
	{"an unknown parameter", "permessage-deflate; level=9", "", 0},
	{"another case", "Permessage-Deflate", "", 0},
	{"malformed: two tokens", "permessage-deflate x", "", 0},
	{"malformed: no name", "permessage-deflate; =9", "", 0},
	{"malformed: no parameter", "permessage-deflate;", "", 0},
	{"malformed: open quote", `permessage-deflate; server_max_window_bits="15`, "", 0},
	{"malformed: behind a good offer", "permessage-deflate, ;", "", 0},
	{"malformed: a quoted value that is no token", `permessage-deflate, x; y="a b"`, "", 0},
}

func TestNegotiation(t *testing.T) {
	for _, c := range offers {
		t.Run(c.name, func(t *testing.T) {
			w, answer := negotiate(http.Header{"Sec-Websocket-Extensions": {c.offer}})
			if answer != c.answer || w != c.window {
				t.Errorf("%q is answered with %q (%#x), want %q (%#x)", c.offer, answer, w, c.answer, c.window)
			}
		})
	}
}

// A list may be spread over several lines.
func TestNegotiationOverSeveralLines(t *testing.T) {
	h := http.Header{"Sec-Websocket-Extensions": {"permessage-bzip2", "permessage-deflate; client_max_window_bits"}}
	if _, answer := negotiate(h); answer != accepted {
		t.Errorf("the answer is %q, want %q", answer, accepted)
	}
	h["Sec-Websocket-Extensions"] = append(h["Sec-Websocket-Extensions"], "=")
	if _, answer := negotiate(h); answer != "" {
		t.Errorf("the answer to a malformed line is %q, want none", answer)
	}
}

// Apple's network library offers the extension and cannot use it.
func TestClientsThatInflateWronglyGetPlainMessages(t *testing.T) {
	const mozilla = "Mozilla/5.0 (X; Y) "
	for agent, compressed := range map[string]bool{
		mozilla + "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15":                    false,
		mozilla + "AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1":  false,
		mozilla + "AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148":                                   false,
		"site/1 CFNetwork/1568.200.51 Darwin/24.1.0":                                                         false,
		mozilla + "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36":                    true,
		mozilla + "AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36":            true,
		mozilla + "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0":      true,
		mozilla + "AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.0.0 Mobile Safari/537.36": true,
		mozilla + "Gecko/20100101 Firefox/128.0":                                                             true,
		"Python/3.13 websockets/14.1":                                                                        true,
		"":                                                                                                   true,
	} {
		h := http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}, "User-Agent": {agent}}
		if _, answer := negotiate(h); (answer != "") != compressed {
			t.Errorf("the answer to %q is %q", agent, answer)
		}
	}
}

// token and value are those of RFC 6455 section 9.1.
const (
	tokenByte  = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]"
	token      = tokenByte + "+"
	value      = `(?:` + token + `|"(?:` + tokenByte + `|\\` + tokenByte + `)+")`
	space      = `[ \t]*`
	parameters = `((?:` + space + `;` + space + token + `(?:` + space + `=` + space + value + `)?)*)`
)

var (
	wholeList  = regexp.MustCompile(`^(?:` + space + `(?:` + token + parameters + `)?` + space + `(?:,|$))*$`)
	oneOffer   = regexp.MustCompile(space + `(` + token + `)` + parameters + space + `(?:,|$)`)
	oneOfThem  = regexp.MustCompile(`;` + space + `(` + token + `)(?:` + space + `=` + space + `(` + value + `))?`)
	validBits  = regexp.MustCompile(`^([89]|1[0-5])$`)
	unescaping = strings.NewReplacer(`"`, "", `\`, "")
)

// expectAnswer negotiates by regular expressions.
func expectAnswer(list string) string {
	if !wholeList.MatchString(list) {
		return ""
	}
offers:
	for _, offer := range oneOffer.FindAllStringSubmatch(list, -1) {
		if offer[1] != "permessage-deflate" {
			continue
		}
		values := map[string]string{}
		for _, p := range oneOfThem.FindAllStringSubmatch(offer[2], -1) {
			name, text := p[1], unescaping.Replace(p[2])
			_, twice := values[name]
			flag := name == "server_no_context_takeover" || name == "client_no_context_takeover"
			bits := name == "server_max_window_bits" || name == "client_max_window_bits"
			switch {
			case twice, !flag && !bits, flag && p[2] != "", bits && p[2] != "" && !validBits.MatchString(text),
				name == "server_max_window_bits" && p[2] == "":
				continue offers
			}
			values[name] = text
		}
		answer := accepted
		if _, ok := values["server_no_context_takeover"]; ok {
			answer += "; server_no_context_takeover"
		}
		if bits, ok := values["server_max_window_bits"]; ok {
			answer += "; server_max_window_bits=" + bits
		}
		return answer
	}
	return ""
}

// FuzzNegotiation compares the parser with regular expressions.
func FuzzNegotiation(f *testing.F) {
	for _, c := range offers {
		f.Add(c.offer)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if strings.ContainsAny(list, "\r\n\x00") {
			return // not within a header
		}
		w, got := negotiate(http.Header{"Sec-Websocket-Extensions": {list}})
		if want := expectAnswer(list); got != want {
			t.Errorf("%q is answered with %q, want %q", list, got, want)
		}
		if w.Deflates() != (got != "") {
			t.Errorf("%q leads to the window %#x", list, w)
		}
	})
}

// The answer must be one that the RFC allows for the offer: a client fails the connection otherwise.
func TestAnswersFitTheirOffers(t *testing.T) {
	flags := []string{"", "; server_no_context_takeover", "; client_no_context_takeover"}
	bits := []string{"", "; client_max_window_bits"}
	for n := 8; n <= 15; n++ {
		bits = append(bits, fmt.Sprint("; client_max_window_bits=", n), fmt.Sprint("; server_max_window_bits=", n))
	}
	for _, a := range flags {
		for _, b := range bits {
			offer := "permessage-deflate" + a + b
			_, answer := negotiate(http.Header{"Sec-Websocket-Extensions": {offer}})
			parts := strings.Split(answer, "; ")
			if parts[0] != "permessage-deflate" || strings.Contains(answer, "client_max_window_bits") {
				t.Errorf("%q is answered with %q", offer, answer)
			}
			for _, asked := range strings.Split(offer, "; ")[1:] {
				if strings.HasPrefix(asked, "server_") && !slices.Contains(parts, asked) {
					t.Errorf("%q is answered with %q, without %s", offer, answer, asked)
				}
			}
		}
	}
}
