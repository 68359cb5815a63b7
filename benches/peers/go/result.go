package main

import (
	"encoding/json"
	"math"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// result is the line of one measurement.
type result struct {
	Peer      string  `json:"peer"`
	Workload  string  `json:"workload"`
	Producers int     `json:"producers"`
	Batch     int     `json:"batch"`
	Body      int     `json:"body"`
	Events    int64   `json:"events"`
	Seconds   float64 `json:"seconds,omitempty"`
	PerSecond int64   `json:"events_per_s,omitempty"`
	P50       int64   `json:"p50_us,omitempty"`
	P99       int64   `json:"p99_us,omitempty"`
	P999      int64   `json:"p999_us,omitempty"`
	Max       int64   `json:"max_us,omitempty"`
	CPU       float64 `json:"cpu_s,omitempty"`
	Resident  int64   `json:"rss_mb"`
	Disk      int64   `json:"disk_mb"`
	Note      string  `json:"note,omitempty"`

	cpuBefore   float64
	bytesBefore int64
}

// begin begins the timed part. Bytes are counted from bytesBefore on, so that a warm-up's can be left out.
func begin(o options, producers int, note string, bytesBefore int64) *result {
	return &result{
		Peer: o.peer, Workload: o.workload, Producers: producers, Batch: o.batch, Body: o.body, Note: note,
		cpuBefore: cpuSeconds(), bytesBefore: bytesBefore,
	}
}

// end ends the timed part.
func (r *result) end(events int64, seconds float64, calls *histogram) string {
	r.CPU = round(cpuSeconds()-r.cpuBefore, 100)
	r.Seconds = round(seconds, 1000)
	r.PerSecond = int64(math.Round(float64(events) / seconds))
	if calls.total > 0 {
		r.P50, r.P99, r.P999 = calls.micros(0.5), calls.micros(0.99), calls.micros(0.999)
		r.Max = calls.max.Round(time.Microsecond).Microseconds()
	}
	return r.untimed(events)
}

// untimed is for a workload of which nothing is timed.
func (r *result) untimed(events int64) string {
	r.Events = events
	r.Resident = procField("/proc/self/status", "VmHWM:") / 1024
	r.Disk = (bytesWritten() - r.bytesBefore) >> 20
	line, err := json.Marshal(r)
	if err != nil {
		fail(err)
	}
	return string(line)
}

func round(x, parts float64) float64 {
	return math.Round(x*parts) / parts
}

func cpuSeconds() float64 {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		fail(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano()).Seconds()
}

func bytesWritten() int64 {
	return procField("/proc/self/io", "write_bytes:")
}

func procField(file, name string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		fail(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				fail(err)
			}
			return n
		}
	}
	return 0
}

const histogramBits = 7

// histogram counts nanoseconds in buckets no wider than 1/128 of their value.
type histogram struct {
	counts [64 << histogramBits]int64
	total  int64
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	shift := max(0, bits.Len64(uint64(d))-1-histogramBits)
	h.counts[shift<<histogramBits+int(d>>shift)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

func (h *histogram) micros(part float64) int64 {
	rank := int64(math.Ceil(part * float64(h.total)))
	i := 0
	for seen := h.counts[0]; seen < rank; seen += h.counts[i] {
		i++
	}
	shift := max(0, i>>histogramBits-1)
	top := time.Duration((i-shift<<histogramBits+1)<<shift - 1)
	return min(top, h.max).Round(time.Microsecond).Microseconds()
}
