// Package missing finds dependencies that were not given to a constructor. Without it a
// program starts that lacks one, and fails at the first request that needs it.
package missing

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Of names the fields of the struct deps that are nil: interfaces, functions, pointers, maps
// and channels. Those in optional may be. It is nil where there is none.
func Of(deps any, optional ...string) error {
	v := reflect.ValueOf(deps)
	var names []string
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch v.Field(i).Kind() {
		case reflect.Interface, reflect.Func, reflect.Pointer, reflect.Map, reflect.Chan:
			if v.Field(i).IsNil() && !slices.Contains(optional, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s lacks %s", v.Type(), strings.Join(names, ", "))
}
