// pion as a driver of docs/interop.md, part 1: one raw peer connection driven by JSON lines.
//
//	pion_driver offer|answer [--trickle] [--mdns]
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/logging"
	"github.com/pion/sctp"
	"github.com/pion/webrtc/v3"
)

const (
	bufferedHigh = 1 << 20
	bufferedLow  = 1 << 19
)

type fields map[string]interface{}

type command struct {
	Cmd               string  `json:"cmd"`
	Label             string  `json:"label"`
	Ordered           *bool   `json:"ordered"`
	MaxRetransmits    *uint16 `json:"maxRetransmits"`
	MaxPacketLifeTime *uint16 `json:"maxPacketLifeTime"`
	Protocol          *string `json:"protocol"`
	Negotiated        bool    `json:"negotiated"`
	ID                *uint16 `json:"id"`
	Type              string  `json:"type"`
	SDP               string  `json:"sdp"`
	Candidate         *string `json:"candidate"`
	SDPMid            *string `json:"sdpMid"`
	SDPMLineIndex     *uint16 `json:"sdpMLineIndex"`
	Binary            *bool   `json:"binary"`
	Size              int     `json:"size"`
	Seed              int     `json:"seed"`
	Count             *int    `json:"count"`
	Text              *string `json:"text"`

	echoed []byte
}

var output sync.Mutex

func tell(ev string, event fields) {
	event["ev"] = ev
	line, _ := json.Marshal(event)
	output.Lock()
	defer output.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

func tellError(err error, cmd, label string) {
	event := fields{"message": err.Error()}
	if cmd != "" {
		event["cmd"] = cmd
	}
	if label != "" {
		event["label"] = label
	}
	if errors.Is(err, sctp.ErrOutboundPacketTooLarge) || errors.Is(err, errUnsupported) {
		event["unsupported"] = true
	}
	tell("error", event)
}

var (
	errUnsupported = errors.New("not in this driver")
	errNoChannel   = errors.New("no such channel")
)

func content(size, seed int, text bool) []byte {
	bytes := make([]byte, size)
	for i := range bytes {
		bytes[i] = byte(seed*131 + i*7 + i>>8)
		if text {
			bytes[i] = 65 + bytes[i]%26
		}
	}
	return bytes
}

type sink struct {
	count, sunk, size int
	first             time.Time
	hash              hash.Hash
}

// channel is a label: what is asked of it, and its data channel once there is one.
type channel struct {
	label    string
	incoming bool
	opened   sync.Once
	closed   sync.Once

	mu   sync.Mutex
	more *sync.Cond // jobs has grown, or the buffer is low
	dc   *webrtc.DataChannel
	jobs []command
	echo bool
	sink *sink
}

func (c *channel) take(dc *webrtc.DataChannel, incoming bool) {
	c.mu.Lock()
	c.dc, c.incoming = dc, incoming
	c.mu.Unlock()
	dc.SetBufferedAmountLowThreshold(bufferedLow)
	dc.OnBufferedAmountLow(func() {
		c.mu.Lock()
		c.more.Broadcast()
		c.mu.Unlock()
	})
	dc.OnOpen(func() { c.opened.Do(c.onOpen) })
	dc.OnMessage(func(message webrtc.DataChannelMessage) {
		c.opened.Do(c.onOpen) // pion calls the two handlers from goroutines of their own
		c.onMessage(message)
	})
	dc.OnClose(func() {
		c.closed.Do(func() { tell("closed", fields{"label": c.label}) })
	})
	dc.OnError(func(err error) { fmt.Fprintf(os.Stderr, "%q: %v\n", c.label, err) }) // and it is closed
}

func (c *channel) onOpen() {
	tell("open", fields{
		"label": c.label, "id": c.dc.ID(), "ordered": c.dc.Ordered(), "maxRetransmits": c.dc.MaxRetransmits(),
		"maxPacketLifeTime": c.dc.MaxPacketLifeTime(), "protocol": c.dc.Protocol(), "negotiated": c.dc.Negotiated(),
		"incoming": c.incoming,
	})
	go c.work()
}

func (c *channel) onMessage(message webrtc.DataChannelMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sink; s != nil {
		if s.sunk == 0 {
			s.first = time.Now()
		}
		s.sunk++
		s.size += len(message.Data)
		s.hash.Write(message.Data)
		if s.sunk == s.count {
			c.sink = nil
			tell("sunk", fields{
				"label": c.label, "count": s.count, "size": s.size, "sha256": fmt.Sprintf("%x", s.hash.Sum(nil)),
				"ms": time.Since(s.first).Milliseconds(),
			})
		}
	} else {
		tell("message", fields{
			"label": c.label, "binary": !message.IsString, "size": len(message.Data),
			"sha256": fmt.Sprintf("%x", sha256.Sum256(message.Data)),
		})
	}
	if c.echo {
		binary := !message.IsString
		c.jobs = append(c.jobs, command{Cmd: "echo", Binary: &binary, echoed: message.Data})
		c.more.Broadcast()
	}
}

func (c *channel) push(job command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dc == nil {
		return errNoChannel
	}
	c.jobs = append(c.jobs, job)
	c.more.Broadcast()
	return nil
}

func (c *channel) send(data []byte, binary bool) error {
	c.mu.Lock()
	for c.dc.BufferedAmount() > bufferedHigh {
		c.more.Wait()
	}
	c.mu.Unlock()
	if binary {
		return c.dc.Send(data)
	}
	return c.dc.SendText(string(data))
}

func (c *channel) carryOut(job command) error {
	binary := job.Text == nil && (job.Binary == nil || *job.Binary)
	switch job.Cmd {
	case "close":
		return c.dc.Close()
	case "echo":
		return c.send(job.echoed, binary)
	}
	count := 1
	if job.Count != nil {
		count = *job.Count
	}
	for j := 0; j < count; j++ {
		var data []byte
		if job.Text != nil {
			data = []byte(*job.Text)
		} else {
			data = content(job.Size, job.Seed+j, !binary)
		}
		if err := c.send(data, binary); err != nil {
			return err
		}
	}
	tell("sent", fields{"label": c.label, "count": count})
	return nil
}

// work does the sends and the close, in their order.
func (c *channel) work() {
	for {
		c.mu.Lock()
		for len(c.jobs) == 0 {
			c.more.Wait()
		}
		job := c.jobs[0]
		c.jobs = c.jobs[1:]
		c.mu.Unlock()
		if err := c.carryOut(job); err != nil {
			tellError(err, job.Cmd, c.label)
		}
	}
}

type driver struct {
	pc       *webrtc.PeerConnection
	trickle  bool
	mu       sync.Mutex
	channels map[string]*channel
}

func (d *driver) channel(label string) *channel {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.channels[label]
	if c == nil {
		c = &channel{label: label}
		c.more = sync.NewCond(&c.mu)
		d.channels[label] = c
	}
	return c
}

func (d *driver) open(cmd command) error {
	init := &webrtc.DataChannelInit{
		Ordered: cmd.Ordered, MaxPacketLifeTime: cmd.MaxPacketLifeTime, MaxRetransmits: cmd.MaxRetransmits, Protocol: cmd.Protocol,
	}
	if cmd.Negotiated {
		init.Negotiated, init.ID = &cmd.Negotiated, cmd.ID
	}
	dc, err := d.pc.CreateDataChannel(cmd.Label, init)
	if err != nil {
		return err
	}
	d.channel(cmd.Label).take(dc, false)
	return nil
}

func (d *driver) describe(description webrtc.SessionDescription, err error) error {
	if err != nil {
		return err
	}
	complete := webrtc.GatheringCompletePromise(d.pc)
	if d.trickle {
		tell("description", fields{"type": description.Type.String(), "sdp": description.SDP})
	}
	if err := d.pc.SetLocalDescription(description); err != nil {
		return err
	}
	if !d.trickle {
		<-complete
		tell("description", fields{"type": description.Type.String(), "sdp": d.pc.LocalDescription().SDP})
	}
	return nil
}

func (d *driver) onCandidate(candidate *webrtc.ICECandidate) {
	switch {
	case !d.trickle:
	case candidate == nil:
		tell("candidate", fields{"candidate": nil, "sdpMid": "", "sdpMLineIndex": 0})
	default:
		init := candidate.ToJSON()
		tell("candidate", fields{"candidate": init.Candidate, "sdpMid": init.SDPMid, "sdpMLineIndex": init.SDPMLineIndex})
	}
}

func (d *driver) describeRemote(cmd command) error {
	description := webrtc.SessionDescription{Type: webrtc.NewSDPType(cmd.Type), SDP: cmd.SDP}
	if err := d.pc.SetRemoteDescription(description); err != nil || cmd.Type != "offer" {
		return err
	}
	return d.describe(d.pc.CreateAnswer(nil))
}

func (d *driver) carryOut(cmd command) error {
	switch cmd.Cmd {
	case "open":
		return d.open(cmd)
	case "start":
		return d.describe(d.pc.CreateOffer(nil))
	case "description":
		return d.describeRemote(cmd)
	case "candidate":
		init := webrtc.ICECandidateInit{SDPMid: cmd.SDPMid, SDPMLineIndex: cmd.SDPMLineIndex}
		if cmd.Candidate != nil {
			init.Candidate = *cmd.Candidate
		}
		return d.pc.AddICECandidate(init)
	case "send", "close":
		return d.channel(cmd.Label).push(cmd)
	case "echo", "sink":
		c := d.channel(cmd.Label)
		c.mu.Lock()
		defer c.mu.Unlock()
		if cmd.Cmd == "echo" {
			c.echo = true
		} else {
			c.sink = &sink{count: 1, hash: sha256.New()}
			if cmd.Count != nil {
				c.sink.count = *cmd.Count
			}
		}
		tell("armed", fields{"label": cmd.Label})
		return nil
	case "die":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return errUnsupported
}

func newDriver(trickle, mdns bool) (*driver, error) {
	engine := webrtc.SettingEngine{}
	loggers := logging.NewDefaultLoggerFactory()
	loggers.Writer = os.Stderr // the events have standard output
	engine.LoggerFactory = loggers
	if mdns {
		engine.SetICEMulticastDNSMode(ice.MulticastDNSModeQueryAndGather)
	} else {
		engine.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	}
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	d := &driver{pc: pc, trickle: trickle, channels: map[string]*channel{}}
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) { tell("state", fields{"state": state.String()}) })
	pc.OnICEConnectionStateChange(func(state webrtc.ICEConnectionState) { tell("ice", fields{"state": state.String()}) })
	pc.OnICECandidate(d.onCandidate)
	pc.OnDataChannel(func(dc *webrtc.DataChannel) { d.channel(dc.Label()).take(dc, true) })
	return d, nil
}

func run() error {
	if len(os.Args) < 2 || os.Args[1] != "offer" && os.Args[1] != "answer" {
		return errors.New("usage: pion_driver offer|answer [--trickle] [--mdns]")
	}
	options := map[string]bool{}
	for _, option := range os.Args[2:] {
		options[option] = true
	}
	d, err := newDriver(options["--trickle"], options["--mdns"])
	if err != nil {
		return err
	}
	tell("ready", fields{"impl": "pion webrtc 3 of Debian", "reset": false})
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			break
		}
		var cmd command
		if json.Unmarshal(line, &cmd) != nil || cmd.Cmd == "" {
			fmt.Fprintln(os.Stderr, "ignored a line that is no command")
			continue
		}
		if cmd.Cmd == "quit" {
			break
		}
		if err := d.carryOut(cmd); err != nil {
			tellError(err, cmd.Cmd, cmd.Label)
		}
	}
	return d.pc.Close()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
