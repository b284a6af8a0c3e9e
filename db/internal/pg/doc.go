// Package pg is what the packages of db share: the pool with its session settings and
// prepared statements (db.go, statement.go), transactions that send few messages (tx.go),
// group commit (coalescer.go), generated bulk statements (patch.go), translated errors, pages
// of lists, and secrets that are sealed in the database (seal.go, keys.go, rotate.go).
//
// It knows no table but secret_keys. A package that has a statement worth preparing, or a
// column of sealed secrets, registers it in a package variable, so that it is known before
// Open.
package pg
