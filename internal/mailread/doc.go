// Package mailread reads Internet messages as they are, not as they should be.
// Its functions recover what a sender meant where the syntax is broken, never
// panic, and take time linear in their input.
//
//  1. Open takes a message apart into a tree of parts (RFC 2045, RFC 2046). The
//     tree is made of slices of the message. Content decodes one part.
//  2. Fields, Params, Words, Addresses and Date read the header (RFC 5322, RFC
//     2047, RFC 2183, RFC 2231).
//  3. Text turns bytes of a declared charset into UTF-8. A declaration that can
//     hold is never overridden.
package mailread
