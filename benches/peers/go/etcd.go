package main

import (
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

const (
	headers    = 14
	maxWaiting = 10_000
	purgeEvery = 100 * time.Millisecond
)

// etcdWal is etcd's write-ahead log, each event one raft entry.
// As in etcd, one goroutine writes: what waits meanwhile is one Save, and so one fdatasync.
type etcdWal struct {
	o       options
	log     *wal.WAL
	waiting chan request
	saved   atomic.Uint64
}

type request struct {
	entries []*raftpb.Entry
	done    chan error
}

func (e *etcdWal) open() error {
	switch e.o.workload {
	case "take", "both":
		return errNoReader
	case "reopen":
		log, err := wal.Open(zap.NewNop(), e.o.dir, &walpb.Snapshot{})
		e.log = log
		return err
	}
	// The log wants a directory that is not there yet, or is empty.
	log, err := wal.Create(zap.NewNop(), e.o.dir, nil)
	if err != nil {
		return err
	}
	e.log = log
	e.waiting = make(chan request, maxWaiting)
	go e.save()
	if e.o.workload == "put" {
		go e.release()
	}
	return nil
}

func (e *etcdWal) producer() (func(int) error, error) {
	body := make([]byte, headers+e.o.body)
	return func(events int) error {
		entries := make([]*raftpb.Entry, events)
		for i := range entries {
			entries[i] = &raftpb.Entry{Data: body}
		}
		r := request{entries, make(chan error, 1)}
		e.waiting <- r
		return <-r.done
	}, nil
}

func (e *etcdWal) save() {
	term, index := uint64(1), uint64(0)
	for first := range e.waiting {
		group := []request{first}
		entries := first.entries
		for more := len(e.waiting); more > 0; more-- {
			r := <-e.waiting
			group = append(group, r)
			entries = append(entries, r.entries...)
		}
		for _, entry := range entries {
			index++
			entry.Term, entry.Index = &term, new(index)
		}
		err := e.log.Save(&raftpb.HardState{}, entries)
		e.saved.Store(index)
		for _, r := range group {
			r.done <- err
		}
	}
}

// release gives back old files as etcd does, but at once: without it `put` would fill the disk.
func (e *etcdWal) release() {
	fileutil.PurgeFile(zap.NewNop(), e.o.dir, "wal", 2, purgeEvery, nil)
	for range time.Tick(purgeEvery) {
		if err := e.log.ReleaseLockTo(e.saved.Load()); err != nil {
			fail(err)
		}
	}
}

// reader reads the whole log, which is all that etcd does with it.
func (e *etcdWal) reader() (func(int) (int, error), error) {
	return func(most int) (int, error) {
		_, _, entries, err := e.log.ReadAll()
		return min(most, len(entries)), err
	}, nil
}

func (e *etcdWal) seal() error {
	return nil
}

func (e *etcdWal) note() string {
	if e.o.workload == "reopen" {
		return "the log is read as a whole before the first event is there"
	}
	return ""
}
