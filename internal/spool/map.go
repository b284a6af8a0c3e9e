package spool

import (
	"errors"
	"fmt"
	"syscall"
)

// Map keeps bytes in a file of an owner, and returns them from there: they are no memory of
// the process, and the system reads them as they are used. The bytes may not be changed, nor
// used after free.
func (p *Pool) Map(owner string, b []byte) (mapped []byte, free func() error, err error) {
	s := &Spool{pool: p, owner: owner, limit: int64(len(b))}
	if err = s.spill(); err == nil {
		if _, err = s.Write(b); err == nil {
			err = s.Settle()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	mapped, err = syscall.Mmap(int(s.file.Fd()), 0, len(b), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("map a file (%s): %w", p.cfg.DirSetting, err), s.Close())
	}
	return mapped, func() error { return errors.Join(syscall.Munmap(mapped), s.Close()) }, nil
}
