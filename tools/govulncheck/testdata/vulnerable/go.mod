// A module with a vulnerability that has been known for years, GO-2021-0113. `make
// vulncheck` must find it, or it would find nothing anywhere.
module vulnerable.test

go 1.26.0

require golang.org/x/text v0.3.5
