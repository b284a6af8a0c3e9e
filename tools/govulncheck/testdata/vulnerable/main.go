// Command vulnerable calls the function that GO-2021-0113 names.
package main

import (
	"fmt"
	"os"

	"golang.org/x/text/language"
)

func main() { fmt.Println(language.Parse(os.Args[0])) }
