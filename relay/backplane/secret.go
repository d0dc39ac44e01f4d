package backplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/pyjson"
)

// tolerance is the largest accepted difference between the clocks of two nodes, as in AWX.
const tolerance = 300 * time.Second

// headerName carries the proof that a node knows the cluster's secret.
const headerName = "secret"

// Rejection is the reason for rejecting a node's handshake. It is a metric's label and an error.
type Rejection string

// The reasons for a rejection.
const (
	RejectedMissing   Rejection = "missing_header"
	RejectedMalformed Rejection = "malformed_header"
	RejectedSecret    Rejection = "wrong_secret"
	RejectedClock     Rejection = "clock_skew"
	RejectedProof     Rejection = "wrong_proof"
	RejectedSelf      Rejection = "own_node"
	RejectedDialect   Rejection = "dialect_off"
)

// Error names the cause and the remedy.
func (r Rejection) Error() string {
	switch r {
	case RejectedMissing:
		return "the secret header is missing: the client is not a node, or a proxy removes the header"
	case RejectedMalformed:
		return "the secret header is not of the form HMAC-SHA256 <seconds>:<hex>"
	case RejectedSecret:
		return "the nodes have different secrets; set the same BROADCAST_WEBSOCKET_SECRET on all nodes"
	case RejectedClock:
		return "the clocks are more than 300 seconds apart, or the header is a replay; synchronize the clocks"
	case RejectedProof:
		return "the handshake's proof does not match its nonce: a replay, or a different secret"
	case RejectedSelf:
		return "the node has dialled itself"
	case RejectedDialect:
		return "this node speaks edgerelay.v1 only (dialect edgerelay)"
	}
	return string(r)
}

// Secrets are the shared secrets of the cluster. The first is used and all are accepted, so that a secret can be
// replaced node by node.
type Secrets []string

// Header returns the header's value for a time, byte for byte as AWX does.
func Header(secret string, now time.Time) string {
	nonce := strconv.FormatInt(now.Unix(), 10)
	return "HMAC-SHA256 " + nonce + ":" + signNonce(secret, nonce)
}

// nativePrefix begins the header of a handshake that can only become edgerelay.v1.
const nativePrefix = "edgerelay.v1 "

// NativeHeader returns the header's value for a handshake that can only become edgerelay.v1, where a challenge
// follows. A recorded value is useless: Python nodes reject it, and relays demand an answer to the challenge.
func NativeHeader(secret string, now time.Time) string {
	nonce := strconv.FormatInt(now.Unix(), 10)
	return nativePrefix + nonce + ":" + signNative(secret, nonce)
}

func signNative(secret, nonce string) string {
	return sign(secret, []byte(nativePrefix+"handshake "+nonce))
}

// signNonce is the HMAC of Python's json.dumps({"secret": secret, "nonce": nonce}), keyed with the secret itself.
func signNonce(secret, nonce string) string {
	message := pyjson.AppendString([]byte(`{"secret": `), secret)
	message = pyjson.AppendString(append(message, `, "nonce": `...), nonce)
	return sign(secret, append(message, '}'))
}

func sign(secret string, message []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(message)
	return hex.EncodeToString(mac.Sum(nil))
}

// Verify checks a header's value. It returns the matching secret and the lag of the sender's clock behind this
// node's, or a [Rejection]. The lag is also returned with RejectedClock.
func (s Secrets) Verify(header string, now time.Time) (secret string, skew time.Duration, err error) {
	return s.verify(header, "HMAC-SHA256 ", signNonce, now)
}

// VerifyNative is Verify for values of [NativeHeader].
func (s Secrets) VerifyNative(header string, now time.Time) (secret string, skew time.Duration, err error) {
	return s.verify(header, nativePrefix, signNative, now)
}

func (s Secrets) verify(header, prefix string, signed func(secret, nonce string) string, now time.Time) (
	secret string, skew time.Duration, err error,
) {
	if header == "" {
		return "", 0, RejectedMissing
	}
	payload, ok := strings.CutPrefix(header, prefix)
	nonce, signature, found := strings.Cut(payload, ":")
	if !ok || !found || nonce == "" || len(nonce) > 20 {
		return "", 0, RejectedMalformed
	}
	for _, candidate := range s { // no early exit: the time must not reveal the match
		if hmac.Equal([]byte(signed(candidate, nonce)), []byte(signature)) && secret == "" {
			secret = candidate
		}
	}
	if secret == "" {
		return "", 0, RejectedSecret
	}
	seconds, err := strconv.ParseInt(nonce, 10, 64)
	if err != nil {
		return "", 0, RejectedMalformed
	}
	skew = now.Truncate(time.Second).Sub(time.Unix(seconds, 0))
	if skew > tolerance || skew < -tolerance {
		return "", skew, RejectedClock
	}
	return secret, skew, nil
}
