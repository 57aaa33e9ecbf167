package build

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEverySampleBuildsToAModule(t *testing.T) {
	for _, tt := range []struct {
		sample string
		lang   Language
		needs  string
	}{{"hello", Go, "go"}, {"greet", Go, "go"}, {"batch", C, "clang"}, {"primes", Rust, "rustc"}} {
		t.Run(tt.sample, func(t *testing.T) {
			path := filepath.Join("..", "..", "samples", tt.sample)
			if lang, err := Detect(path); err != nil || lang != tt.lang {
				t.Fatalf("Detect = %s, %v; want %s", lang, err, tt.lang)
			}
			if _, err := exec.LookPath(tt.needs); err != nil {
				t.Skipf("%s is not installed", tt.needs)
			}
			var out bytes.Buffer
			wasm, err := Module(t.Context(), path, &out)
			if err != nil && tt.lang != Go { // the compiler is there, its WASI target may not be
				t.Skipf("%s cannot build for WASI here: %v", tt.needs, err)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			if !bytes.HasPrefix(wasm, []byte("\x00asm\x01\x00\x00\x00")) {
				t.Errorf("built %d bytes that are no core module", len(wasm))
			}
		})
	}
}

func TestAFolderThatExportsFunctionsBecomesALibrary(t *testing.T) {
	folder := func(name, text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, row := range []struct {
		lang Language
		dir  string
		flag string
		want bool
	}{
		{Go, folder("main.go", "package main\n\n//go:wasmexport f\nfunc f() {}\n\nfunc main() {}\n"), "-buildmode=c-shared", true},
		{Go, folder("main.go", "package main\n\nfunc main() {}\n"), "-buildmode=c-shared", false},
		{Go, folder("main_test.go", "package main\n\n//go:wasmexport f\nfunc f() {}\n"), "-buildmode=c-shared", false},
		{C, folder("f.c", "__attribute__((export_name(\"f\"))) int f(void) { return 1; }\n"), "-mexec-model=reactor", true},
		{C, folder("f.c", "int main(void) { return 1; }\n"), "-mexec-model=reactor", false},
	} {
		cmd, err := command(t.Context(), row.lang, row.dir, "out.wasm")
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(cmd.Args, row.flag); got != row.want {
			t.Errorf("%s: got %q, want %s: %v", row.lang, cmd.Args, row.flag, row.want)
		}
	}
}

func TestWhatCannotBeBuiltSaysWhy(t *testing.T) {
	empty := t.TempDir()
	crate := t.TempDir()
	if err := os.WriteFile(filepath.Join(crate, "Cargo.toml"), []byte("[dependencies]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(empty, "notes.txt")
	broken := t.TempDir()
	for path, content := range map[string]string{text: "x", filepath.Join(broken, "main.go"): "package main\nfunc main() { x }\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, path, want string }{
		{"missing", filepath.Join(empty, "nothing"), "no such file"},
		{"text file", text, "a folder or a .wasm file"},
		{"crate with dependencies", crate, "cargo build"},
		{"compile error", broken, "build " + broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if _, err := Module(t.Context(), tt.path, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Module = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestNamesAreDNSLabels(t *testing.T) {
	for path, want := range map[string]string{
		"./samples/hello": "hello", "/tmp/My_App.wasm": "my-app", "/x/2048": "app-2048", "/x/__": "app", "/x/" + strings.Repeat("a", 99): strings.Repeat("a", 63),
	} {
		if got, err := Name(path); err != nil || got != want {
			t.Errorf("Name(%s) = %q, %v; want %q", path, got, err, want)
		}
	}
}
