package assembly

import (
	"fmt"
	"net"
	"strconv"
)

// listen is a setting that is the HOST:PORT of a server. Empty: nowhere, or the standard one.
type listen struct{ name, addr string }

// checkListens checks the addresses of one process, each alone and against those before it.
func checkListens(all ...listen) error {
	for i, l := range all {
		if err := checkListen(l.name, l.addr); err != nil {
			return err
		}
		for _, before := range all[:i] {
			if meet(l.addr, before.addr) {
				return &SettingError{l.name, l.addr, fmt.Sprintf("the setting %s has this address, too: give each its own", before.name)}
			}
		}
	}
	return nil
}

// meet says whether two servers cannot listen at the addresses at the same time, as far as the texts tell.
func meet(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	port, err := strconv.Atoi(portA)
	return errA == nil && errB == nil && err == nil && port != 0 && portA == portB && (hostA == hostB || everywhere(hostA) || everywhere(hostB))
}

// everywhere says whether a server that listens at the host does so at all addresses of the machine.
func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func checkListen(name, addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return &SettingError{name, addr, "want HOST:PORT"}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return &SettingError{name, addr, "want HOST:PORT with a port from 0 to 65535; 0 takes a free one"}
	}
	return nil
}
