package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

func pluginKeygenCommand() *cobra.Command {
	const long = "Makes an Ed25519 key for 'plugin sign': <name>.key, which only the signer needs, and <name>.pub. It prints the\n" +
		"line for the Caddyfile. The private key has no password; keep it where your other secrets are."
	return &cobra.Command{
		Use: "keygen <name>", Short: "Make a key that signs modules", Long: long, Args: cobra.ExactArgs(1),
		Example: "  caddy edgerelay plugin keygen release",
		RunE:    runE(func(_ context.Context, args []string) error { return generateKey(os.Stdout, args[0]) }),
	}
}

func generateKey(w io.Writer, name string) error {
	if name == "" || os.IsPathSeparator(name[len(name)-1]) {
		return usageErrorf("invalid name %q of a key; use a name such as release, with or without a directory", name)
	}
	private, public, err := artifact.GenerateKey()
	if err != nil {
		return err
	}
	key, err := artifact.ParsePublicKey(string(public))
	if err != nil {
		return err
	}
	line, err := artifact.FormatPublicKey(key)
	if err != nil {
		return err
	}
	if err := writeNew("private key", name+".key", private, 0o600); err != nil {
		return err
	}
	if err := writeNew("public key", name+".pub", public, 0o644); err != nil {
		return errors.Join(err, os.Remove(name+".key"))
	}
	_, err = fmt.Fprintf(w, "%s.key signs modules; keep it secret\nplugin_key %s %s\n", name, filepath.Base(name), line)
	return err
}

// writeNew writes a file that does not exist yet. what is the noun for the error.
func writeNew(what, name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return unwritable(what, name, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return unwritable(what, name, errors.Join(err, os.Remove(name)))
	}
	return nil
}

func pluginSignCommand() *cobra.Command {
	const long = "Signs a module, and adds the signature to <file.wasm>.sig. 'plugin deploy' and 'plugin push' take the signatures\n" +
		"from there, and so does a relay whose Caddyfile names the file.\n\n" +
		"--for limits the signature to plugins of that name in the Caddyfile, so that a module that was signed for one\n" +
		"plugin cannot take the place of another's."
	var key string
	var plugins []string
	cmd := &cobra.Command{
		Use: "sign --key <file> <file.wasm>", Short: "Sign a module", Long: long, Args: cobra.ExactArgs(1),
		RunE: runE(func(_ context.Context, args []string) error { return sign(os.Stdout, args[0], key, plugins) }),
	}
	cmd.Example = "  caddy edgerelay plugin sign redact.wasm --key release.key"
	cmd.Flags().StringVar(&key, "key", "", "file with the private key, see 'plugin keygen'")
	_ = cmd.MarkFlagRequired("key")
	cmd.Flags().StringSliceVar(&plugins, "for", nil, "name of a plugin that may run the module; default: every plugin")
	return cmd
}

func sign(w io.Writer, file, key string, plugins []string) error {
	wasm, err := readModule(file)
	if err != nil {
		return err
	}
	text, err := readFile("private key", key)
	if err != nil {
		return err
	}
	private, err := artifact.ParsePrivateKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	s, err := artifact.Sign(wasm, private, plugins...)
	if err != nil {
		return err
	}
	before, err := readSignatures(file)
	if err != nil {
		return err
	}
	// Signatures of an earlier content of the file are of no use.
	kept := before[:0]
	for _, b := range before {
		if string(b.Manifest) == string(s.Manifest) {
			kept = append(kept, b)
		}
	}
	if text, err = artifact.FormatSignatures(artifact.Merge(kept, *s)); err != nil {
		return err
	}
	name := file + pluginhost.SignatureSuffix
	if err := replaceFile("signatures", name, text); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: signed %.19s for %s\n", name, artifact.Digest(wasm), describePlugins(plugins))
	return err
}

func describePlugins(plugins []string) string {
	if len(plugins) == 0 {
		return "every plugin"
	}
	return "the plugins " + strings.Join(plugins, ", ")
}

func pluginVerifyCommand() *cobra.Command {
	const long = "Verifies that one of the keys has signed a module, as a relay with these keys does.\n" +
		"A key is a file .pub, or the key itself as in the Caddyfile."
	var keys []string
	var plugin string
	f := &registryFlags{}
	cmd := &cobra.Command{
		Use: "verify --key <key> <file.wasm|oci://…>", Short: "Verify the signatures of a module", Long: long, Args: cobra.ExactArgs(1),
		RunE: runE(func(ctx context.Context, args []string) error {
			parsed, err := readKeys(keys)
			if err != nil {
				return err
			}
			s, err := f.read(ctx, os.Stderr, args[0])
			if err != nil {
				return err
			}
			return verify(os.Stdout, s, parsed, plugin, f.asJSON)
		}),
	}
	cmd.Example = "  caddy edgerelay plugin verify redact.wasm --key release.pub"
	cmd.Flags().StringArrayVar(&keys, "key", nil, "public key; repeat it for several")
	_ = cmd.MarkFlagRequired("key")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, jsonUsage)
	cmd.Flags().StringVar(&plugin, "for", "", "name of the plugin that is to run the module")
	f.add(cmd)
	return cmd
}

// readKeys reads public keys from files, or from the texts themselves.
func readKeys(list []string) (keys artifact.Keys, err error) {
	for _, text := range list {
		key := artifact.Key{Name: text}
		b, err := os.ReadFile(text)
		switch {
		case err == nil:
			key.Name, text = strings.TrimSuffix(filepath.Base(text), ".pub"), string(b)
		case strings.HasSuffix(text, ".pub"): // no key itself: Base64 has no full stop
			return nil, unreadable("public key", text, err)
		}
		if key.Public, err = artifact.ParsePublicKey(text); err != nil {
			return nil, fmt.Errorf("--key %.80s: %w", key.Name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// verifiedModule is the JSON of the command plugin verify.
type verifiedModule struct {
	Digest string `json:"digest"`
	// SignedBy is the name of the key. Plugin is the plugin that the signature is for; empty for every plugin.
	SignedBy string `json:"signed_by"`
	Plugin   string `json:"plugin,omitempty"`
}

func verify(w io.Writer, s *source, keys artifact.Keys, plugin string, asJSON bool) error {
	// Without --for, signatures for any plugin count.
	candidates := []string{plugin}
	if plugin == "" {
		for _, signature := range s.signatures {
			candidates = append(candidates, signature.Plugins()...)
		}
	}
	var err error
	for _, name := range candidates {
		var by string
		var again error
		if by, again = keys.Verify(s.wasm, name, s.signatures); again == nil {
			if asJSON {
				return printJSON(w, verifiedModule{artifact.Digest(s.wasm), by, name})
			}
			what := describePlugins(nil)
			if name != "" {
				what = describePlugins([]string{name})
			}
			_, err = fmt.Fprintf(w, "%.19s: signed by %s for %s\n", artifact.Digest(s.wasm), by, what)
			return err
		}
		if err == nil {
			err = again
		}
	}
	return err
}
