package main

import "context"

// suppressed is how many entries the suppression list of a deployment's customer has.
const suppressed = 1_000_000

// deploySuppressed is a deployment with a long suppression list; nil if no row needs it. None of its
// entries covers a recipient.
func (p *plan) deploySuppressed(ctx context.Context) (*deployment, error) {
	if !p.wanted("batch-suppressed", "copies-suppressed") {
		return nil, nil
	}
	d, err := p.st.deploy(ctx, p.st.dev, "suppressed", 0, inOne)
	if err != nil {
		return nil, err
	}
	say("%s: writing %s suppressions", d.name, thousands(suppressed))
	_, err = d.pool.Exec(ctx, `INSERT INTO suppressions (id, customer_id, address_key, address, scope, reason, source)
		SELECT gen_random_uuid(), (SELECT id FROM customers), left(encode(sha256(convert_to(i::text, 'UTF8')), 'base64'), 22), 'person' || i || '@example.org', 'all', 'manual', 'import'
		FROM generate_series(1, $1::int) AS i`, suppressed)
	if err == nil {
		_, err = d.pool.Exec(ctx, "VACUUM ANALYZE suppressions")
	}
	return d, err
}
