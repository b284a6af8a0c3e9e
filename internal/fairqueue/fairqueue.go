// Package fairqueue is a queue in memory whose owners take turns: one owner's many items do not
// delay another owner's first.
package fairqueue

import "slices"

// Queue holds what waits, by owner, and gives it out round robin: one item of each owner that
// waits, then the next item of each. One owner's items leave in the order in which they came.
// The zero value is empty and has no bound. A Queue is not safe for concurrent use.
type Queue[T comparable] struct {
	// Max bounds the items. It is set before the first Push.
	Max Max

	// owners are those that have items, the next turn first.
	owners []*owned[T]
	n      int
}

// owned are one owner's items, the oldest first. There is at least one.
type owned[T comparable] struct {
	owner string
	items []T
}

// Max is how many items may wait. 0 means no bound.
type Max struct {
	// Owner is how many items one owner may have, All is how many there may be.
	Owner, All int
}

// Push adds an item. refused is the item that is not admitted. It is this one if its owner has as
// many as it may have. Otherwise, with the queue full, it is the newest item of the owner that has
// most.
func (q *Queue[T]) Push(owner string, item T) (refused T, full bool) {
	o := q.of(owner)
	if o != nil && q.Max.Owner > 0 && len(o.items) >= q.Max.Owner {
		return item, true
	}
	o = q.add(o, owner, item)
	if q.Max.All == 0 || q.n <= q.Max.All {
		return refused, false
	}
	most := slices.MaxFunc(q.owners, func(a, b *owned[T]) int { return len(a.items) - len(b.items) })
	if len(most.items) == len(o.items) { // who comes last does not push another out that has no more
		most = o
	}
	return q.removeAt(most, len(most.items)-1), true
}

// Add adds an item also beyond the bounds.
func (q *Queue[T]) Add(owner string, item T) { q.add(q.of(owner), owner, item) }

// add adds an item of an owner; o is nil if it has none.
func (q *Queue[T]) add(o *owned[T], owner string, item T) *owned[T] {
	if o == nil {
		o = &owned[T]{owner: owner}
		q.owners = append(q.owners, o)
	}
	o.items = append(o.items, item)
	q.n++
	return o
}

// Pop takes the oldest item of the first owner that may have a turn, whose next turn comes
// after all others'. With may nil, that is each owner.
func (q *Queue[T]) Pop(may func(owner string, item T) bool) (owner string, item T, ok bool) {
	for i, o := range q.owners {
		if may != nil && !may(o.owner, o.items[0]) {
			continue
		}
		owner, item = o.owner, o.items[0]
		q.owners = slices.Delete(q.owners, i, i+1)
		q.n--
		if o.items = o.items[1:]; len(o.items) > 0 {
			q.owners = append(q.owners, o)
		}
		return owner, item, true
	}
	return owner, item, false
}

// Remove takes an item out, if it is there, and reports whether it was.
func (q *Queue[T]) Remove(owner string, item T) bool {
	o := q.of(owner)
	if o == nil {
		return false
	}
	i := slices.Index(o.items, item)
	if i < 0 {
		return false
	}
	q.removeAt(o, i)
	return true
}

// Len is how many items there are.
func (q *Queue[T]) Len() int { return q.n }

func (q *Queue[T]) removeAt(o *owned[T], i int) T {
	item := o.items[i]
	q.n--
	if o.items = slices.Delete(o.items, i, i+1); len(o.items) == 0 {
		q.owners = slices.DeleteFunc(q.owners, func(other *owned[T]) bool { return other == o })
	}
	return item
}

func (q *Queue[T]) of(owner string) *owned[T] {
	for _, o := range q.owners {
		if o.owner == owner {
			return o
		}
	}
	return nil
}
