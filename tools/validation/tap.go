// Package tap prints results in the Test Anything Protocol. It stands in for the module of that name
// that the validation programs import and that Debian does not package: the calls they make of it.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the results of one program.
type T struct {
	count int
	todo  bool
}

// New returns a T that has printed nothing yet.
func New() *T { return &T{} }

// Header prints the version, and the plan where it is known.
func (t *T) Header(planned int) {
	fmt.Println("TAP version 13")
	if planned > 0 {
		fmt.Printf("1..%d\n", planned)
	}
}

func (t *T) print(word, text string) {
	t.count++
	if t.todo {
		text += " # TODO"
		t.todo = false
	}
	fmt.Printf("%s %d - %s\n", word, t.count, text)
}

// Ok prints a result.
func (t *T) Ok(good bool, text string) {
	if good {
		t.print("ok", text)
	} else {
		t.print("not ok", text)
	}
}

// Pass prints a good result.
func (t *T) Pass(text string) { t.Ok(true, text) }

// Fail prints a bad one.
func (t *T) Fail(text string) { t.Ok(false, text) }

// Skip prints results that were not tried.
func (t *T) Skip(count int, text string) {
	for ; count > 0; count-- {
		t.print("ok", "# SKIP "+text)
	}
}

// Todo makes the next result one that is not expected to be good.
func (t *T) Todo() *T {
	t.todo = true
	return t
}

// AutoPlan prints how many results there were.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", t.count) }

// Diagnostic prints text for people.
func (t *T) Diagnostic(text string) {
	fmt.Println("# " + strings.ReplaceAll(text, "\n", "\n# "))
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML prints what belongs to the last result; JSON is YAML.
func (t *T) YAML(value interface{}) error {
	data, err := json.MarshalIndent(value, "  ", "  ")
	if err == nil {
		fmt.Printf("  ---\n  %s\n  ...\n", data)
	}
	return err
}
