package dbtest

import "github.com/postrider/postrider/db"

// migrate brings the template database to the current schema.
var migrate = db.MigrateUp
