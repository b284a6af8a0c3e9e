// Package pg has what the packages of db share:
//
// - the pool with its session settings and prepared statements: db.go, statement.go
// - transactions that send few messages: tx.go
// - group commit and bounded waiting: coalescer.go, slots.go
// - generated bulk statements: patch.go
// - translated errors and pages of lists: errors.go, pages.go
// - secrets that are sealed in the database: seal.go, keys.go, rotate.go
//
// It knows no table but secret_keys. A package registers its prepared statements and its columns of
// sealed secrets in package variables. So they are known before Open.
package pg
