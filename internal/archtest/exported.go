package archtest

import (
	"fmt"
	"go/types"
	"slices"
)

// exported lists what a program that imports the package can name: one line for each
// constant with its value, variable, function, type, method and struct field with its tag,
// sorted. A changed line is a changed promise.
func exported(pkg *types.Package) (lines []string) {
	from := func(p *types.Package) string {
		if p == pkg {
			return ""
		}
		return p.Path()
	}
	for _, name := range pkg.Scope().Names() {
		o := pkg.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		switch o := o.(type) {
		case *types.Const:
			lines = append(lines, fmt.Sprintf("const %s %s = %s", name, types.TypeString(o.Type(), from), o.Val().ExactString()))
		case *types.TypeName:
			lines = append(lines, exportedType(o, from)...)
		default:
			lines = append(lines, types.ObjectString(o, from))
		}
	}
	slices.Sort(lines)
	return lines
}

// exportedType lists a type, its exported fields and its exported methods, those of embedded
// fields left out.
func exportedType(o *types.TypeName, from types.Qualifier) (lines []string) {
	named, ok := o.Type().(*types.Named)
	if !ok || o.IsAlias() {
		return []string{types.ObjectString(o, from)}
	}
	for m := range named.Methods() {
		if m.Exported() {
			lines = append(lines, types.ObjectString(m, from))
		}
	}
	of, ok := named.Underlying().(*types.Struct)
	if !ok {
		return append(lines, types.ObjectString(o, from))
	}
	hidden := ""
	for i := range of.NumFields() {
		f := of.Field(i)
		if !f.Exported() {
			hidden = ", with unexported fields"
			continue
		}
		line := fmt.Sprintf("field %s.%s %s", o.Name(), f.Name(), types.TypeString(f.Type(), from))
		if f.Embedded() {
			line += ", embedded"
		}
		if of.Tag(i) != "" {
			line += " `" + of.Tag(i) + "`"
		}
		lines = append(lines, line)
	}
	return append(lines, "type "+o.Name()+" struct"+hidden)
}
