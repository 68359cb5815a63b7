// The benchmark driver of the Go peers: driver PEER WORKLOAD --dir DIR ..., one measurement, one line of JSON.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

type options struct {
	peer, workload, dir    string
	producers, batch, body int
	events                 int64
	seconds, warmup        float64
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fail(err)
	}
}

// fail ends the process, from whatever goroutine: a measurement without it is worth nothing.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "driver:", err)
	os.Exit(1)
}

func parse(args []string) (options, error) {
	var o options
	if len(args) < 2 || strings.HasPrefix(args[0], "-") || strings.HasPrefix(args[1], "-") {
		return o, fmt.Errorf("usage: driver PEER WORKLOAD --dir DIR [--producers P] [--batch B] [--body S] [--seconds T] [--events N] [--warmup W]")
	}
	o.peer, o.workload = args[0], args[1]
	flags := flag.NewFlagSet("driver", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.dir, "dir", "", "")
	flags.IntVar(&o.producers, "producers", 1, "")
	flags.IntVar(&o.batch, "batch", 100, "")
	flags.IntVar(&o.body, "body", 512, "")
	flags.Int64Var(&o.events, "events", 1_000_000, "")
	flags.Float64Var(&o.seconds, "seconds", 3, "")
	flags.Float64Var(&o.warmup, "warmup", 0, "")
	if err := flags.Parse(args[2:]); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("no option %s", flags.Arg(0))
	case o.dir == "":
		return o, fmt.Errorf("--dir is missing")
	case o.producers < 1 || o.batch < 1 || o.events < 1:
		return o, fmt.Errorf("--producers, --batch and --events must be at least 1")
	case o.body < 0 || !(o.seconds >= 0 && o.seconds <= 86400) || !(o.warmup >= 0 && o.warmup <= 86400):
		return o, fmt.Errorf("--body must be at least 0, --seconds and --warmup from 0 to 86400")
	}
	return o, nil
}

func run(o options) error {
	var p peer
	switch o.peer {
	case "etcd-wal":
		p = &etcdWal{o: o}
	case "nats":
		p = &natsStore{o: o}
	default:
		return fmt.Errorf("no peer %s; there are etcd-wal, nats", o.peer)
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	b := bench{o: o, peer: p}
	var line string
	var err error
	switch o.workload {
	case "put":
		line, err = b.put(false)
	case "both":
		line, err = b.put(true)
	case "take":
		line, err = b.take()
	case "fill":
		line, err = b.fill()
	case "reopen":
		line, err = b.reopen()
	default:
		err = fmt.Errorf("no workload %s; there are put, take, both, fill, reopen", o.workload)
	}
	if err != nil {
		return err
	}
	fmt.Println(line)
	if o.workload == "fill" {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return nil
}
