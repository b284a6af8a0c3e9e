package mailmerge

import (
	"errors"
	"maps"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// Limits of variables. A message may use as many as a recipient may give, besides email and
// name.
const (
	maxVariables     = 50
	maxVariableBytes = 8192
	maxNames         = maxVariables + 2
)

// VariableName matches the names that variables may have.
var VariableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

// variables are the variables of one recipient. It counts all, and keeps the first
// maxVariables: without that limit, a batch could hold as many as fit into its body.
type variables struct {
	values map[string]*string
	n      int
}

const wantVariables = intake.TypeError("the value has the wrong type; give an object")

// UnmarshalJSONFrom reads an object of strings.
func (v *variables) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		return d.SkipValue()
	case '{':
	default:
		return intake.WrongKind(d, wantVariables)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for v.values = map[string]*string{}; d.PeekKind() != '}'; v.n++ {
		if v.n >= maxVariables {
			if err := errors.Join(d.SkipValue(), d.SkipValue()); err != nil {
				return err
			}
			continue
		}
		var name string
		var value *string
		if err := json.UnmarshalDecode(d, &name); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(d, &value); err != nil {
			return err
		}
		v.values[name] = value
	}
	_, err := d.ReadToken()
	return err
}

// variables are the recipient's variables, with email and name from its address unless it sets
// them. It refuses a recipient without a variable that the message uses.
func (t *template) variables(c *intake.Checks, r recipient, to email.Address) map[string]string {
	if r.Variables.n > maxVariables {
		c.Refuse("/variables", intake.CodeTooMany, "there are %d variables, the limit is %d", r.Variables.n, maxVariables)
		return nil
	}
	vars := map[string]string{"email": to.Email}
	if to.Name != "" {
		vars["name"] = to.Name
	}
	for _, name := range slices.Sorted(maps.Keys(r.Variables.values)) {
		pointer, v := intake.Member("/variables", name), r.Variables.values[name]
		switch {
		case !VariableName.MatchString(name):
			c.Refuse("/variables", intake.CodeInvalidName, "a variable's name has 1 to 64 of the characters A-Z a-z 0-9 _ . -, no digit first")
		case name == unsubscribe.Name:
			c.Refuse(pointer, intake.CodeReserved, "%s is the recipient's link to unsubscribe by; choose another name", unsubscribe.Placeholder)
		case c.Value(pointer, v, maxVariableBytes):
			vars[name] = *v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.names)) {
		_, given := r.Variables.values[name]
		given = given || name == "name" && deref(r.Name) != "" // a name that is not valid is refused as such
		if _, ok := vars[name]; !ok && !given {
			c.Refuse(intake.Member("/variables", name), intake.CodeMissing, "the message uses this variable; give its value, which may be empty")
		}
	}
	return vars
}
