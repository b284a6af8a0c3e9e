package api

import "github.com/postrider/postrider/email"

// StatusOf is the table of problems, with what is a fault of our own.
func StatusOf() map[email.Code]int {
	out := map[email.Code]int{codeInternal: 500}
	for code, status := range statusOf {
		out[code] = status
	}
	return out
}

// FilterNames are the query parameters that narrow a list of e-mails.
var FilterNames = filterNames
