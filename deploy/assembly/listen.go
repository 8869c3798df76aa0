package assembly

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
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

// meet says whether two servers cannot listen at the addresses at the same time, as far as can be known.
func meet(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	port, err := strconv.Atoi(portA)
	if errA != nil || errB != nil || err != nil || port == 0 || portA != portB {
		return false
	}
	ipsA, ipsB := addresses(hostA), addresses(hostB)
	return hostA == hostB || everywhere(ipsA) || everywhere(ipsB) ||
		slices.ContainsFunc(ipsA, func(ip net.IPAddr) bool {
			return slices.ContainsFunc(ipsB, func(other net.IPAddr) bool { return ip.IP.Equal(other.IP) })
		})
}

// addresses are those that a server listens at: those of the host's name; none if the name is not known.
func addresses(host string) []net.IPAddr {
	if host == "" {
		return []net.IPAddr{{IP: net.IPv6unspecified}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil // who listens there says so
	}
	return ips
}

func everywhere(ips []net.IPAddr) bool {
	return slices.ContainsFunc(ips, func(ip net.IPAddr) bool { return ip.IP.IsUnspecified() })
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
