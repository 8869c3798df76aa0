package linearizability

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// serverEnv tells this binary that it is a server, and which one.
const serverEnv = "KVLOCK_LINEARIZABILITY_SERVER"

func TestMain(m *testing.M) {
	if settings := os.Getenv(serverEnv); settings != "" {
		if err := serve(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// settings are those of one server.
type settings struct {
	Name, Dir       string
	Port, RoutePort int
	Routes          []string
}

// serve is the server's process. It ends when its standard input does.
func serve(text string) error {
	var set settings
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		return err
	}
	opts := &natsd.Options{
		ServerName: set.Name, Host: "127.0.0.1", Port: set.Port, JetStream: true, StoreDir: set.Dir, SyncAlways: true, NoSigs: true, NoLog: true,
	}
	if len(set.Routes) > 0 {
		opts.Cluster = natsd.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: set.RoutePort, NoAdvertise: true}
		for _, r := range set.Routes {
			opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: r})
		}
	}
	srv, err := natsd.NewServer(opts)
	if err != nil {
		return err
	}
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		return fmt.Errorf("server %s is not ready after a minute", set.Name)
	}
	fmt.Fprintln(os.Stdout, "ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// server is one of them, as the test has it.
type server struct {
	settings
	gate *gate
	cmd  *exec.Cmd
	done chan struct{} // Closed when the process has ended.
}

// startServers starts n of them; three know each other.
func startServers(t *testing.T, n int) []*server {
	t.Helper()
	servers := make([]*server, n)
	var routes []string
	for i := range servers {
		servers[i] = &server{settings: settings{Name: fmt.Sprintf("n%d", i), Dir: t.TempDir(), Port: freePort(t), RoutePort: freePort(t)}}
		routes = append(routes, servers[i].routeAddr())
	}
	for _, s := range servers {
		if n > 1 {
			s.Routes = routes
		}
		s.start(t)
		s.gate = openGate(t, s.addr())
	}
	for _, s := range servers {
		t.Cleanup(s.kill)
	}
	return servers
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

func (s *server) routeAddr() string { return fmt.Sprintf("127.0.0.1:%d", s.RoutePort) }

// start starts the process and waits until it takes connections.
func (s *server) start(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(s.settings)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), serverEnv+"="+string(text))
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when it is stopped
	if _, err = s.cmd.StdinPipe(); err != nil {                          // closed when this process ends
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("server %s said %q, %v", s.Name, line, err)
	}
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
}

// kill ends the process as kill -9 does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}

func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal %v to %s: %v", sig, s.Name, err)
	}
}

// state is the process's, as /proc names it: T is stopped.
func (s *server) state() byte {
	stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(s.cmd.Process.Pid), "stat"))
	if err != nil {
		return '?'
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[0]
}
