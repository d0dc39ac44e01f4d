package plugins

import (
	"slices"

	"github.com/edgerelay/edgerelay/plugins/internal/wasmfile"
)

// Inspection describes a module that has not been compiled.
type Inspection struct {
	Hash string `json:"hash"`
	Size int    `json:"size"`
	// Hooks are the exports that the host calls for events, without the prefix "ev_".
	Hooks []string `json:"hooks"`
	// ABI is the version of the plugin ABI that the manifest asks for, or else that the known hooks and imports need;
	// empty without a hook and an import.
	ABI string `json:"abi,omitempty"`
	// Imports are the imported functions, as "module.name".
	Imports []string `json:"imports"`
	// Grants are the capabilities that the imports need. The manifest may ask for more.
	Grants []Grant `json:"grants"`
	// Unknown are the imports that this host does not serve, so that it rejects the module.
	Unknown  []string  `json:"unknown_imports,omitempty"`
	Manifest *Manifest `json:"manifest,omitempty"`
}

// Inspect describes a module from its bytes. It neither compiles nor runs the module.
func Inspect(wasm []byte) (*Inspection, error) {
	m, err := wasmfile.Read(wasm)
	if err != nil {
		return nil, err
	}
	in := &Inspection{Hash: Hash(wasm), Size: len(wasm), Hooks: []string{}, Imports: []string{}, Grants: []Grant{}}
	if in.Manifest, err = manifestOf(m); err != nil {
		return nil, err
	}
	minor := -1
	for _, e := range exports {
		if e.hook != 0 && slices.Contains(m.Exports, wasmfile.Export{Name: e.name, Kind: wasmfile.Function}) {
			in.Hooks = append(in.Hooks, e.hook.String())
			minor = max(minor, since[e.name])
			if e.hook == OnTick {
				in.Grants = append(in.Grants, GrantTick)
			}
		}
	}
	for _, i := range m.Imports {
		in.addImport(i)
		if i.Module == hostModule {
			minor = max(minor, since[i.Name])
		}
	}
	if minor >= 0 {
		in.ABI = abiText(minor)
	}
	if in.Manifest != nil {
		if in.Manifest.ABI != "" {
			in.ABI = in.Manifest.ABI
		}
	}
	return in, nil
}

func (in *Inspection) addImport(i wasmfile.Import) {
	name := i.Module + "." + i.Name
	in.Imports = append(in.Imports, name)
	var list []hostFunction
	switch i.Module {
	case hostModule:
		list = hostFunctions
	case wasiModule:
		list = wasiFunctions
	}
	at := slices.IndexFunc(list, func(f hostFunction) bool { return f.name == i.Name && i.Kind == wasmfile.Function })
	switch {
	case at < 0:
		in.Unknown = append(in.Unknown, name)
	case list[at].grant != "" && !slices.Contains(in.Grants, list[at].grant):
		in.Grants = append(in.Grants, list[at].grant)
	}
}
