package pg

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Rows are written many at a time: the database gets them as one JSON array. A struct says which
// columns. Its json tags name them; their types follow from the fields' Go types, or from the tag
// sql where those do not say enough. A Copier copies a row's values from the fields of the same
// names. So a new column takes a migration, a field of the row, and a field of the patch.

// Recordset reads the JSON array $1 as rows of P, named v.
func Recordset[P any]() string {
	var columns []string
	for _, f := range patchFields(reflect.TypeFor[P]()) {
		columns = append(columns, columnOf(f)+" "+columnType(f))
	}
	return "jsonb_to_recordset($1::jsonb) AS v(" + strings.Join(columns, ", ") + ")"
}

// InsertOf inserts the rows of the JSON array $1 into a table.
func InsertOf[P any](table string) string {
	var columns []string
	for _, f := range patchFields(reflect.TypeFor[P]()) {
		columns = append(columns, columnOf(f))
	}
	list := strings.Join(columns, ", ")
	return "INSERT INTO " + table + " (" + list + ") SELECT " + list + " FROM " + Recordset[P]()
}

// UpdateOf sets the columns of P in the rows of a table whose key is in the JSON array $1. $2 is
// the number of its rows, for the planner, and $3 their keys. The caller may append one more
// condition. Columns in but are there for that condition, and not set.
func UpdateOf[P any](table, alias, key string, but ...string) string {
	var set []string
	for _, f := range patchFields(reflect.TypeFor[P]()) {
		if c := columnOf(f); c != key && !slices.Contains(but, c) {
			set = append(set, c+" = v."+c)
		}
	}
	return "UPDATE " + table + " AS " + alias + " SET " + strings.Join(set, ", ") + Patched[P](alias, key)
}

// Patched joins the rows of the JSON array $1, as updateOf.
func Patched[P any](alias, key string) string {
	return " FROM (SELECT * FROM " + Recordset[P]() + " LIMIT $2) AS v WHERE " + alias + "." + key + " = ANY ($3) AND " + alias + "." + key + " = v." + key
}

// patchFields are the fields of a struct that are columns, those of embedded structs too.
func patchFields(t reflect.Type) (out []reflect.StructField) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		if name := columnOf(f); name == "" || name == "-" {
			panic(fmt.Sprintf("%s.%s names no column: give it a json tag", t, f.Name))
		}
		out = append(out, f)
	}
	return out
}

func columnOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func columnType(f reflect.StructField) string {
	if s := f.Tag.Get("sql"); s != "" {
		return s
	}
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "timestamptz"
	case t == reflect.TypeFor[json.RawMessage]():
		return "jsonb"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Int64:
		return "bigint"
	case reflect.Struct, reflect.Slice, reflect.Map:
		return "jsonb"
	}
	panic(fmt.Sprintf("%s has no column type for %s: give it the tag sql", f.Name, f.Type))
}

// Copier makes a function that copies a row's fields into a patch: each field of the patch has
// one of its name in the row. A time that is zero becomes a nil pointer. Fields in but are the
// caller's.
func Copier[R, P any](but ...string) func(*R) P {
	type pair struct {
		from, to []int
		nullable bool
	}
	row, patch := reflect.TypeFor[R](), reflect.TypeFor[P]()
	var pairs []pair
	for _, to := range patchFields(patch) {
		if slices.Contains(but, to.Name) {
			continue
		}
		from, ok := row.FieldByName(to.Name)
		nullable := ok && from.Type == reflect.TypeFor[time.Time]() && to.Type == reflect.TypeFor[*time.Time]()
		if !ok || from.Type != to.Type && !nullable {
			panic(fmt.Sprintf("%s.%s: %s has no such field of this type", patch, to.Name, row))
		}
		pairs = append(pairs, pair{from.Index, to.Index, nullable})
	}
	return func(r *R) (p P) {
		src, dst := reflect.ValueOf(r).Elem(), reflect.ValueOf(&p).Elem()
		for _, m := range pairs {
			from, to := src.FieldByIndex(m.from), dst.FieldByIndex(m.to)
			if !m.nullable {
				to.Set(from)
			} else if !from.IsZero() {
				to.Set(from.Addr())
			}
		}
		return p
	}
}
