package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// registryFlags are the flags of commands that speak to a registry.
type registryFlags struct {
	username      string
	passwordStdin bool
	plainHTTP     bool
	asJSON        bool // of push and verify
	cmd           *cobra.Command
}

func (f *registryFlags) add(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().StringVarP(&f.username, "username", "u", "",
		"user name for the registry; default: $"+oci.EnvUsername+", or Docker's configuration file")
	cmd.Flags().BoolVar(&f.passwordStdin, "password-stdin", false,
		"read the password for the registry from the standard input; default: $"+oci.EnvPassword)
	cmd.Flags().BoolVar(&f.plainHTTP, "plain-http", false, "speak to the registry without TLS; default: to one on this machine")
}

// registry returns the registry that the flags describe.
func (f *registryFlags) registry() (*oci.Registry, error) {
	g := &oci.Registry{Username: f.username}
	if f.cmd.Flags().Changed("plain-http") {
		g.PlainHTTP = &f.plainHTTP
	}
	switch {
	case f.passwordStdin && f.username == "":
		return nil, usageErrorf("--password-stdin needs --username")
	case f.passwordStdin:
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxPassword)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		g.Password = strings.TrimRight(line, "\r\n")
	case f.username != "":
		g.Password = os.Getenv(oci.EnvPassword)
	}
	return g, nil
}

// maxPassword bounds a password from the standard input, which may be a token, in bytes.
const maxPassword = 64 << 10

// source is a module from a file or a registry, with its signatures.
type source struct {
	wasm       []byte
	signatures []artifact.Signature
	// ref is the reference in the registry with the digest; nil for a file.
	ref *oci.Reference
}

// read reads a module: a file with the signatures beside it, or an artifact of a registry. Warnings go to w.
func (f *registryFlags) read(ctx context.Context, w io.Writer, from string) (*source, error) {
	if !oci.IsReference(from) {
		if strings.Contains(from, "://") {
			return nil, notAFile(from, "download the module, or name an artifact of a registry with oci://")
		}
		wasm, err := readModule(from)
		if err != nil {
			return nil, err
		}
		signatures, err := readSignatures(from)
		return &source{wasm: wasm, signatures: signatures}, err
	}
	ref, err := oci.ParseReference(from)
	if err != nil {
		return nil, err
	}
	g, err := f.registry()
	if err != nil {
		return nil, err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	a, err := g.Pull(ctx, ref)
	if err != nil {
		return nil, err
	}
	if a.SignaturesErr != nil {
		fmt.Fprintln(w, "warning: not all signatures can be read:", printable(a.SignaturesErr.Error()))
	}
	return &source{a.Module, a.Signatures, &a.Ref}, nil
}

// readSignatures reads the signatures beside a module's file; none if there is no such file.
func readSignatures(module string) ([]artifact.Signature, error) {
	name := module + pluginhost.SignatureSuffix
	b, err := readFile("signatures", name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := artifact.ParseSignatures(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

func pluginPushCommand() *cobra.Command {
	const long = "Pushes a module to an OCI registry, in the format of other WebAssembly tools. Name, version, description\n" +
		"and source come from the module's manifest. Signatures beside the file (<file.wasm>.sig, see 'plugin sign') are\n" +
		"pushed with it, in the format and place of cosign.\n\n" +
		"The last line is the reference with the digest, for 'plugin deploy' and the Caddyfile."
	f := &registryFlags{}
	cmd := &cobra.Command{
		Use: "push <file.wasm> oci://<registry>/<repository>[:<tag>]", Short: "Push a module to an OCI registry", Long: long,
		Args: cobra.ExactArgs(2),
		RunE: runE(func(ctx context.Context, args []string) error { return f.push(ctx, os.Stdout, args[0], args[1]) }),
	}
	cmd.Example = "  caddy edgerelay plugin push redact.wasm oci://registry.example.com/plugins/redact:1.2.0"
	cmd.Flags().BoolVar(&f.asJSON, "json", false, jsonUsage)
	f.add(cmd)
	return cmd
}

// pushedModule is the JSON of the command plugin push.
type pushedModule struct {
	// Ref is the reference with the digest.
	Ref        string `json:"ref"`
	Size       int    `json:"size"`
	Signatures int    `json:"signatures"`
}

func (f *registryFlags) push(ctx context.Context, w io.Writer, file, to string) error {
	ref, err := oci.ParseReference(to)
	if err != nil {
		return err
	}
	wasm, err := readModule(file)
	if err != nil {
		return err
	}
	signatures, err := readSignatures(file)
	if err != nil {
		return err
	}
	g, err := f.registry()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	if ref, err = g.Push(ctx, ref, wasm, signatures); err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(w, pushedModule{ref.String(), len(wasm), len(signatures)})
	}
	_, err = fmt.Fprintf(w, "pushed %d bytes and %s\n%s\n", len(wasm),
		english.Plural(len(signatures), "signature", ""), ref)
	return err
}
