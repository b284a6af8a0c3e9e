// The Go vulnerability database, as data: its reports are data/osv of this module, and
// no package of it is built. `go mod tidy` would remove the requirement.
// Renew it often: go get golang.org/x/vulndb@latest
module github.com/postrider/postrider/tools/vulndb

go 1.26.0

require golang.org/x/vulndb v0.0.0-20261105234957-e22db6528018
