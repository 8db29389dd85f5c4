package chaos

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mutant whose text is gone from the sources would not be built, and what it stands for not be
// tried any more.
func TestMutantsFitTheSources(t *testing.T) {
	if len(Mutants) < 10 {
		t.Errorf("%d mutants, at least 10 are promised", len(Mutants))
	}
	for _, m := range append(Mutants, Mutant{Name: "instruments", Edits: instruments}) {
		t.Run(m.Name, func(t *testing.T) {
			texts := make(map[string]string)
			for _, e := range m.Edits {
				if _, read := texts[e.File]; !read {
					data, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(e.File)))
					if err != nil {
						t.Fatal(err)
					}
					texts[e.File] = string(data)
				}
				if count := strings.Count(texts[e.File], e.Old); count != 1 {
					t.Fatalf("%q occurs %d times in %s, must be once", e.Old, count, e.File)
				}
				texts[e.File] = strings.Replace(texts[e.File], e.Old, e.New, 1)
			}
			for name, text := range texts {
				if _, err := parser.ParseFile(token.NewFileSet(), name, text, 0); err != nil {
					t.Errorf("%s does not parse with the bug in it: %v", name, err)
				}
			}
		})
	}
}
