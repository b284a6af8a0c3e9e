package senderdomain

import "time"

// Verifier is who says that a domain is its customer's.
type Verifier string

// The verifiers. Empty means that the domain is not verified.
const (
	// VerifiedByDNS says that a check has found the required records.
	VerifiedByDNS Verifier = "dns"
	// VerifiedByOperator says that an operator vouches for the domain. Its records do not matter.
	VerifiedByOperator Verifier = "operator"
)

// Blocker says why a domain is not verified although its records are right.
type Blocker string

// The blockers. Empty is none.
const (
	// BlockedByOperator says that an operator has taken the domain's verification back. Only an
	// operator can verify it again.
	BlockedByOperator Blocker = "operator"
	// BlockedByCustomer says that the domain is another customer's. It becomes free when that
	// customer's verification fails or that customer deletes it.
	BlockedByCustomer Blocker = "other_customer"
)

// Domain is a customer's sender domain with its verification.
type Domain struct {
	ID, CustomerID string
	// Name is in lower case, with A-labels.
	Name string

	// Status is what holds for mail: DomainVerified if an operator vouches for the domain, else
	// that of the checks.
	Status DomainStatus
	Since  time.Time
	// VerifiedAt and VerifiedBy are zero while the customer may not send from the domain.
	VerifiedAt time.Time
	VerifiedBy Verifier
	BlockedBy  Blocker

	// CheckedAt is zero before the first check, NextCheckAt if there is no next one.
	CheckedAt, NextCheckAt time.Time
	// Records have what the last check said of them.
	Records []Record
	// SPF is what the last check found for each relay, and ReturnDomain the domain of return paths now.
	SPF          []SPFResult
	ReturnDomain string
	// Keys are the DKIM keys, newest first.
	Keys []DKIMKey

	CreatedAt time.Time
}

// FirstProblem is the first required record that a check has found missing or wrong; nil if
// there is none.
func FirstProblem(records []Record) *Record {
	for i, r := range records {
		if r.Required && r.isMissed() {
			return &records[i]
		}
	}
	return nil
}

// WithResults copies the status, problem and remedy of checked records to those of the same
// name, type and value.
func WithResults(records, checked []Record) []Record {
	for i, r := range records {
		for _, c := range checked {
			if c.FQDN == r.FQDN && c.Type == r.Type && c.Value == r.Value {
				r.Status, r.Found, r.Problem, r.Remedy = c.Status, c.Found, c.Problem, c.Remedy
				records[i] = r
			}
		}
	}
	return records
}

// Findings are what a check has found.
type Findings struct {
	Records []Record
	SPF     []SPFResult
}

// Begun is what a check of a domain begins with.
type Begun struct {
	Domain
	// Due says that the records are to be looked up now. Otherwise the next check is at
	// NextCheckAt.
	Due bool
	// Waits says that a check is due and waits for its turn: the domain is woken then, at NextCheckAt
	// at the latest.
	Waits bool
	// Revision names the state that the check began with: a check is not saved if the state has
	// changed since.
	Revision int64
	// BounceHost is the domain's own host of return paths, as the check before has left it, and
	// InstallationHost that of the installation. Both may be empty.
	BounceHost, InstallationHost string
}

// ReturnDomain is the domain of return paths, once a check has found records.
func (b Begun) ReturnDomain(found []Record) string {
	return ReturnDomain(b.Name, BounceHost(found, b.BounceHost), b.InstallationHost)
}

// ReturnDomain is the domain of the return paths of mail from a domain: its own host for them, else that of
// the installation, else the domain itself.
func ReturnDomain(domain, own, installation string) string {
	switch {
	case installation == "":
		return domain
	case own == "":
		return installation
	}
	return own
}
