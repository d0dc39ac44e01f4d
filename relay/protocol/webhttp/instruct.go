package webhttp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// InstructType is the media type of a response whose body is an instruction in JSON.
const InstructType = "application/grip-instruct"

// holdMode is what becomes of a client's response.
type holdMode uint8

const (
	// noHold: the response ends; with a next link, that link's response continues it.
	noHold holdMode = iota
	// holdResponse: the client waits for the response until an item or the timeout.
	holdResponse
	// holdStream: the response stays open, and items are appended.
	holdStream
)

// Times of instructions without a timeout of their own, as in Pushpin.
const (
	defaultHoldTimeout = 55 * time.Second
	defaultNextTimeout = 120 * time.Second
	maxHoldTimeout     = 24 * time.Hour
)

// channelHold is a channel of an instruction.
type channelHold struct {
	name    string
	filters []string
	// prevID is the id of the last item that the response has; ordered is set if it is known.
	prevID  string
	ordered bool
}

// instruct is what a site wants of the relay, in the headers Grip-… or the JSON of a response.
type instruct struct {
	mode     holdMode
	channels []channelHold
	// timeout is the time for which a client waits for a response.
	timeout time.Duration
	// keepAlive, unless nil, is appended to a stream, each keepEvery after the last write, or, if keepRegular is set, each
	// keepEvery.
	keepAlive   []byte
	keepEvery   time.Duration
	keepRegular bool
	meta        []pair
	// next and gone are links, empty without one. A stream asks next each nextEvery without an item; 0: never.
	next, gone string
	nextEvery  time.Duration
	// The response for the client, without the headers Grip-….
	status int
	header http.Header
	body   []byte
}

// HasInstruct reports whether a response has an instruction to hold, by its header.
func HasInstruct(h http.Header) bool {
	return h.Get("Grip-Hold") != "" || h.Get("Grip-Link") != "" || h.Get("Grip-Channel") != "" || isInstruct(h)
}

// isInstruct reports whether the body of a response is an instruction.
func isInstruct(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), InstructType)
}

// parseInstruct parses the instruction of a response. The error names the header or member and the remedy.
func parseInstruct(status int, h http.Header, body []byte) (in *instruct, err error) {
	in = &instruct{status: status, header: http.Header{}, body: body, timeout: -1}
	for _, read := range []func(http.Header) error{
		in.readMode, in.readChannels, in.readTimeout, in.readKeepAlive, in.readMeta, in.readStatus, in.readLinks,
	} {
		if err := read(h); err != nil {
			return nil, err
		}
	}
	in.passHeader(h)
	if isInstruct(h) {
		if status != http.StatusOK {
			return nil, fmt.Errorf("%s with status %d; use 200", InstructType, status)
		}
		if err := in.readJSON(body); err != nil {
			return nil, err
		}
	}
	if in.timeout < 0 {
		in.timeout = defaultHoldTimeout
	}
	if !validStatus(in.status) {
		return nil, fmt.Errorf("status %d is none of a response; use 200 to 599", in.status)
	}
	return in, in.check()
}

// check rejects instructions that cannot be followed.
func (in *instruct) check() error {
	for i := range in.channels {
		c := &in.channels[i]
		if c.name == "" {
			return errors.New("a channel has no name; name it in Grip-Channel")
		}
		if len(c.filters) > maxFilters { // without the others, the client could get what they withhold
			return errFilters
		}
		if in.mode == holdStream && c.ordered && in.next == "" {
			return fmt.Errorf("channel %.64q has prev-id, and there is no Grip-Link with rel=next; add one", c.name)
		}
	}
	size := 0
	for _, p := range in.meta {
		size += len(p.name) + len(p.value)
	}
	if len(in.meta) > maxMeta || size > maxMetaSize {
		return errMeta
	}
	if len(in.keepAlive) > maxKeptMessage {
		return fmt.Errorf("Grip-Keep-Alive has more than %d bytes; use fewer", maxKeptMessage)
	}
	return nil
}

func (in *instruct) readMode(h http.Header) (err error) {
	if h["Grip-Hold"] != nil {
		in.mode, err = parseMode(h.Get("Grip-Hold"))
	}
	return err
}

func parseMode(text string) (holdMode, error) {
	switch text {
	case "response":
		return holdResponse, nil
	case "stream":
		return holdStream, nil
	}
	return noHold, fmt.Errorf("invalid hold %.32q; use response or stream", text)
}

func (in *instruct) readChannels(h http.Header) error {
	for _, text := range splitValues(h, "Grip-Channel") {
		name, params, err := cutValue(text)
		if err != nil {
			return fmt.Errorf("Grip-Channel: %w", err)
		}
		c := channelHold{name: name}
		c.prevID, c.ordered = valueOf(params, "prev-id")
		for _, p := range params {
			if p.name == "filter" {
				c.filters = append(c.filters, p.value)
			}
		}
		in.addChannel(c)
	}
	return nil
}

// addChannel adds a channel. Of several entries with a name, the last one counts.
func (in *instruct) addChannel(c channelHold) {
	in.channels = append(slices.DeleteFunc(in.channels, func(o channelHold) bool { return o.name == c.name }), c)
}

// parseSeconds parses a time in whole seconds.
func parseSeconds(name, text string) (time.Duration, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: invalid time %.32q; use whole seconds", name, text)
	}
	return min(time.Duration(n)*time.Second, maxHoldTimeout), nil
}

func (in *instruct) readTimeout(h http.Header) (err error) {
	if h["Grip-Timeout"] != nil {
		in.timeout, err = parseSeconds("Grip-Timeout", h.Get("Grip-Timeout"))
	}
	return err
}

func (in *instruct) readKeepAlive(h http.Header) error {
	text := h.Get("Grip-Keep-Alive")
	if text == "" {
		return nil
	}
	value, params, err := cutValue(text)
	if err != nil {
		return fmt.Errorf("Grip-Keep-Alive: %w", err)
	}
	if value == "" {
		return errors.New("Grip-Keep-Alive is empty; name the content")
	}
	switch mode, _ := valueOf(params, "mode"); mode {
	case "", "idle":
	case "interval":
		in.keepRegular = true
	default:
		return fmt.Errorf("Grip-Keep-Alive: unknown mode %.32q; use idle or interval", mode)
	}
	in.keepEvery = defaultKeepAlive
	if timeout, has := valueOf(params, "timeout"); has {
		if in.keepEvery, err = parseSeconds("Grip-Keep-Alive", timeout); err != nil {
			return err
		}
	}
	switch format, _ := valueOf(params, "format"); format {
	case "", "raw":
		in.keepAlive = []byte(value)
	case "cstring":
		in.keepAlive, err = parseCString(value)
	case "base64":
		in.keepAlive, err = base64.StdEncoding.DecodeString(value)
	default:
		err = fmt.Errorf("unknown format %.32q; use raw, cstring or base64", format)
	}
	if err != nil {
		return fmt.Errorf("Grip-Keep-Alive: %w", err)
	}
	return nil
}

var errCString = errors.New(`a backslash of a cstring has no meaning; use \\, \r, \n or \x and two hexadecimal digits`)

// parseCString resolves the escapes \\, \r, \n and \xhh. Any other escape has no content, as in Pushpin.
func parseCString(text string) (out []byte, err error) {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out = append(out, text[i])
			continue
		}
		if i++; i == len(text) {
			return nil, errCString
		}
		switch text[i] {
		case '\\':
			out = append(out, '\\')
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 'x':
			if i+2 >= len(text) {
				return nil, errCString
			}
			b, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
			if err != nil {
				return nil, errCString
			}
			out, i = append(out, byte(b)), i+2
		}
	}
	return out, nil
}

func (in *instruct) readMeta(h http.Header) error {
	for _, text := range splitValues(h, "Grip-Set-Meta") {
		params, err := parseParams(text)
		if err != nil {
			return fmt.Errorf("Grip-Set-Meta: %w", err)
		}
		if len(params) > 0 {
			in.setMeta(params[0].name, params[0].value)
		}
	}
	return nil
}

func (in *instruct) setMeta(name, value string) {
	in.meta = append(slices.DeleteFunc(in.meta, func(p pair) bool { return p.name == name }), pair{name, value})
}

// metaValue returns a value of the meta.
func metaValue(meta []pair, name string) (string, bool) {
	for _, p := range meta {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

func (in *instruct) readStatus(h http.Header) (err error) {
	text, _, _ := strings.Cut(strings.TrimSpace(h.Get("Grip-Status")), " ")
	if text == "" {
		return nil
	}
	if in.status, err = strconv.Atoi(text); err != nil {
		return fmt.Errorf("Grip-Status: invalid status %.32q; use a number such as 304", text)
	}
	return nil
}

func (in *instruct) readLinks(h http.Header) error {
	for _, text := range splitValues(h, "Grip-Link") {
		link, params, err := cutValue(text)
		if err != nil {
			return fmt.Errorf("Grip-Link: %w", err)
		}
		rel, _ := valueOf(params, "rel")
		if rel != "next" && rel != "gone" {
			continue
		}
		uri, opened := strings.CutPrefix(link, "<")
		uri, closed := strings.CutSuffix(uri, ">")
		if !opened || !closed || uri == "" {
			return fmt.Errorf("Grip-Link: invalid link %.64q; write it in < and >", link)
		}
		if rel == "gone" {
			in.gone = uri
			continue
		}
		in.next, in.nextEvery = uri, defaultNextTimeout
		if timeout, has := valueOf(params, "timeout"); has {
			if in.nextEvery, err = parseSeconds("Grip-Link", timeout); err != nil {
				return err
			}
		}
	}
	return nil
}

// passHeader takes over the headers for the client: those that Grip-Expose-Headers names, or all, without those that
// belong to the site's own connection.
func (in *instruct) passHeader(h http.Header) {
	exposed := splitValues(h, "Grip-Expose-Headers")
	for name, values := range h {
		switch {
		case strings.HasPrefix(name, "Grip-"), name == "Connection", name == "Keep-Alive", name == "Transfer-Encoding",
			name == "Content-Length", name == "Trailer", name == "Upgrade":
		case len(exposed) > 0 && !slices.ContainsFunc(exposed, func(e string) bool { return strings.EqualFold(e, name) }):
		default:
			in.header[name] = values
		}
	}
}
