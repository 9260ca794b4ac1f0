package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// adminFake is a Backend that answers as it is told. The methods that are not
// here panic, as those of a nil interface do.
type adminFake struct {
	Backend
	err     error
	applied string
	reserve func(context.Context, *api.ReserveRequest) (*api.Outcome, error)
}

func (f *adminFake) Reserve(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	return f.reserve(ctx, r)
}

func (f *adminFake) Release(_ context.Context, sid wire.SID) (*api.Outcome, error) {
	return &api.Outcome{SessionId: sid.String(), Accepted: true}, f.err
}

func (f *adminFake) Status(context.Context) (*api.NodeStatus, error) {
	return &api.NodeStatus{As: 65001}, f.err
}

func (f *adminFake) ApplySLS(_ context.Context, _ *api.ApplyRequest, by string) (*api.ApplyResponse, error) {
	f.applied = by
	return &api.ApplyResponse{}, f.err
}

func (f *adminFake) ListSLS(context.Context) ([]*api.SLS, error) { return nil, f.err }

func adminLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// socketDir returns a folder whose path is short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startAdmin(t *testing.T, c AdminConfig, b Backend) *Admin {
	t.Helper()
	a := NewAdmin(c, b, adminLog())
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(t.Context()) })
	return a
}

func dialAdmin(t *testing.T, target string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func wantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func TestAdminOverUnixSocket(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	f := &adminFake{}
	startAdmin(t, AdminConfig{Listen: Listen{"unix", path}}, f)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; want mode 0600", info, err)
	}
	conn := dialAdmin(t, "unix:"+path, insecure.NewCredentials())
	s, err := api.NewNodeServiceClient(conn).Status(t.Context(), &api.StatusRequest{})
	if err != nil || s.GetAs() != 65001 {
		t.Fatalf("Status: %v, %v", s, err)
	}
	if _, err := api.NewSLSServiceClient(conn).Apply(t.Context(), &api.ApplyRequest{Yaml: []byte("x"), Name: "f"}); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("uid %d, gid %d", os.Getuid(), os.Getgid()); f.applied != want {
		t.Errorf("applied by %q, want %q", f.applied, want)
	}
	if _, err := api.NewSLSServiceClient(conn).Apply(t.Context(), &api.ApplyRequest{Name: "f.yaml"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an empty file: %v", err)
	}
}

// A caller's role comes from the uid, the gid or a supplementary group,
// whichever gives more; who has none is told where it could be given.
func TestAdminRoles(t *testing.T) {
	n := func(v uint32) *uint32 { return &v }
	a := NewAdmin(AdminConfig{Allow: []AllowConfig{
		{UID: n(1000), Role: RoleRead}, {GID: n(50), Role: RoleOperate}, {UID: n(1002), Role: RoleOperate}, {GID: n(60), Role: RoleRead},
	}}, &adminFake{}, adminLog())
	for _, test := range []struct {
		cred          peerCred
		read, operate bool
	}{
		{peerCred{uid: 0, gid: 0}, true, true},
		{peerCred{uid: uint32(os.Geteuid()), gid: 7}, true, true},
		{peerCred{uid: 1000, gid: 1000}, true, false},
		{peerCred{uid: 1000, gid: 50}, true, true},
		{peerCred{uid: 1001, gid: 1001, groups: []uint32{9, 50}}, true, true},
		{peerCred{uid: 1001, gid: 60}, true, false},
		{peerCred{uid: 1002, gid: 60}, true, true},
		{peerCred{uid: 1003, gid: 1003}, false, false},
	} {
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: test.cred})
		for method, need := range adminRoles {
			allowed := test.read
			if need == RoleOperate {
				allowed = test.operate
			}
			_, err := a.intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return 1, nil })
			if (err == nil) != allowed {
				t.Errorf("%+v, %s: %v, want allowed %v", test.cred, method, err, allowed)
			}
			if !allowed {
				wantStatus(t, err, codes.PermissionDenied, "whoever runs qned can give it in its configuration under admin.allow")
			}
		}
	}
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerCred{uid: 1003, gid: 4}})
	_, err := a.intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: api.ReservationService_Reserve_FullMethodName}, nil)
	wantStatus(t, err, codes.PermissionDenied, "ReservationService/Reserve needs the role operate, and uid 1003, gid 4 has none")
	_, err = a.intercept(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/interqos.v1.Node/New"}, nil)
	wantStatus(t, err, codes.PermissionDenied, "Node/New needs the role operate, and unknown has none")

	// A reload takes a right away at once.
	ctx = peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerCred{uid: 1002, gid: 4}})
	a.Reconfigure(AdminConfig{})
	_, err = a.intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: api.NodeService_Status_FullMethodName}, nil)
	wantStatus(t, err, codes.PermissionDenied, "needs the role read")
}

func TestAdminRolesCoverEveryMethod(t *testing.T) {
	n := 0
	for _, service := range []grpc.ServiceDesc{api.ReservationService_ServiceDesc, api.SLSService_ServiceDesc, api.NodeService_ServiceDesc} {
		for _, m := range service.Methods {
			n++
			if _, ok := adminRoles["/"+service.ServiceName+"/"+m.MethodName]; !ok {
				t.Errorf("%s/%s has no role", service.ServiceName, m.MethodName)
			}
		}
		for _, m := range service.Streams {
			n++
			if _, ok := adminRoles["/"+service.ServiceName+"/"+m.StreamName]; !ok {
				t.Errorf("%s/%s has no role", service.ServiceName, m.StreamName)
			}
		}
	}
	if n != len(adminRoles) {
		t.Errorf("%d methods, %d roles", n, len(adminRoles))
	}
}

func TestAdminErrors(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	f := &adminFake{}
	startAdmin(t, AdminConfig{Listen: Listen{"unix", path}}, f)
	client := api.NewNodeServiceClient(dialAdmin(t, "unix:"+path, insecure.NewCredentials()))
	for _, test := range []struct {
		err  error
		code codes.Code
	}{
		{fmt.Errorf("session x: %w", ErrNotFound), codes.NotFound},
		{fmt.Errorf("%w: x", ErrInvalid), codes.InvalidArgument},
		{fmt.Errorf("%w: 3 reservations on it", ErrConflict), codes.FailedPrecondition},
		{fmt.Errorf("%w: shard 2", ErrBusy), codes.ResourceExhausted},
		{fmt.Errorf("x is %w", ErrUnsupported), codes.Unimplemented},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{errors.New("disk on fire"), codes.Internal},
		{status.Error(codes.Aborted, "x"), codes.Aborted},
	} {
		f.err = test.err
		_, err := client.Status(t.Context(), &api.StatusRequest{})
		wantStatus(t, err, test.code, status.Convert(test.err).Message())
	}
	// A panic in one call is that call's error, and the node goes on.
	_, err := client.Reload(t.Context(), &api.ReloadRequest{})
	wantStatus(t, err, codes.Internal, "an error in qned itself, see its log")
	f.err = nil
	if _, err := client.Status(t.Context(), &api.StatusRequest{}); err != nil {
		t.Error(err)
	}
}

func TestReserveIsChecked(t *testing.T) {
	ok := func() *api.ReserveRequest {
		return &api.ReserveRequest{
			Source: "10.1.0.10", Destination: "10.3.0.0/24", Protocol: 17, DestinationPort: 5001, Class: "EF", Rate: 20e6,
			SessionId: "00112233445566778899aabbccddeeFF",
		}
	}
	var got *api.ReserveRequest
	s := reservationService{backend: &adminFake{reserve: func(_ context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
		got = r
		return &api.Outcome{Accepted: true}, nil
	}}}
	if out, err := s.Reserve(t.Context(), ok()); err != nil || !out.GetAccepted() || got.GetRate() != 20e6 {
		t.Fatalf("got %v, %v", out, err)
	}
	for want, change := range map[string]func(*api.ReserveRequest){
		`source "10.1.0.300", expected an IPv4 or IPv6 address or prefix`:                                                           func(r *api.ReserveRequest) { r.Source = "10.1.0.300" },
		`destination "", expected an IPv4 or IPv6 address or prefix`:                                                                func(r *api.ReserveRequest) { r.Destination = "" },
		`destination "10.3.0.7/24" has host bits, expected 10.3.0.0/24 or an address`:                                               func(r *api.ReserveRequest) { r.Destination = "10.3.0.7/24" },
		`source ::1/128 and destination 10.3.0.0/24 are of two IP versions`:                                                         func(r *api.ReserveRequest) { r.Source = "::1" },
		`protocol 256, expected an IP protocol number up to 255, or 0 for any`:                                                      func(r *api.ReserveRequest) { r.Protocol = 256 },
		`destination port 70000, expected at most 65535, or 0 for any`:                                                              func(r *api.ReserveRequest) { r.DestinationPort = 70000 },
		`destination port 5001 with protocol 0, expected a protocol that has ports (tcp 6, udp 17, dccp 33, sctp 132, udplite 136)`: func(r *api.ReserveRequest) { r.Protocol = 0 },
		`session id "xyz" has 3 characters, expected 32 hexadecimal digits`:                                                         func(r *api.ReserveRequest) { r.SessionId = "xyz" },
		`session id "0011223344556677_899aabbccddeeff" has '_' at character 17, expected 32 hexadecimal digits`:                     func(r *api.ReserveRequest) { r.SessionId = "0011223344556677_899aabbccddeeff" },
		`no class, expected a PHB such as EF or AF41, or a DSCP`:                                                                    func(r *api.ReserveRequest) { r.Class = "" },
		`no rate, and a peak, burst or minimum rate; expected a rate in bit/s, or the class alone`:                                  func(r *api.ReserveRequest) { r.Rate, r.MinRate = 0, 1 },
		`a QSPEC and class, rate, peak, burst, minimum rate or priority beside it; expected one of the two`:                         func(r *api.ReserveRequest) { r.Qspec = "class=EF" },
		`peak 1 bit/s is below the rate, 20000000 bit/s`:                                                                            func(r *api.ReserveRequest) { r.Peak = 1 },
		`minimum rate 20000001 bit/s is above the rate, 20000000 bit/s`:                                                             func(r *api.ReserveRequest) { r.MinRate = 20e6 + 1 },
		`priority 256, expected 1 (normal) to 7, or 0 for not said`:                                                                 func(r *api.ReserveRequest) { r.Priority = 256 },
		`timeout -1s, expected a duration above zero`:                                                                               func(r *api.ReserveRequest) { r.Timeout = durationpb.New(-time.Second) },
	} {
		r := ok()
		change(r)
		if _, err := s.Reserve(t.Context(), r); !errors.Is(err, ErrInvalid) || err.Error() != "invalid request: "+want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	flow, err := RequestedFlow(ok())
	want := wire.Flow{
		Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.0/24"),
		HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: 5001,
	}
	if err != nil || flow != want {
		t.Errorf("got %+v, %v, want %+v", flow, err, want)
	}
}

func TestReserveTimeout(t *testing.T) {
	s := reservationService{backend: &adminFake{reserve: func(ctx context.Context, _ *api.ReserveRequest) (*api.Outcome, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}}
	_, err := s.Reserve(t.Context(), &api.ReserveRequest{Source: "::1", Destination: "::2", Class: "EF", Rate: 1, Timeout: durationpb.New(time.Millisecond)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestParseSessionID(t *testing.T) {
	sid, err := ParseSessionID("00112233445566778899aabbccddEEFF")
	if err != nil || sid.String() != "00112233445566778899aabbccddeeff" {
		t.Errorf("got %s, %v", sid, err)
	}
}

func TestAdminSocketInTheWay(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	c := AdminConfig{Listen: Listen{"unix", path}}

	// One that a dead process left behind is replaced.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	a := NewAdmin(c, &adminFake{}, adminLog())
	if err := a.Start(); err != nil {
		t.Fatalf("with a dead socket in the way: %v", err)
	}
	// One that somebody listens on is not.
	if err := NewAdmin(c, &adminFake{}, adminLog()).Start(); err == nil || !strings.Contains(err.Error(), "is qned running already?") {
		t.Errorf("a second qned: %v", err)
	}
	a.Close(t.Context())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
	// Nor is what is no socket.
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewAdmin(c, &adminFake{}, adminLog()).Start(); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestAdminCloseCutsOff(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	called := make(chan struct{})
	a := NewAdmin(AdminConfig{Listen: Listen{"unix", path}}, &adminFake{reserve: func(ctx context.Context, _ *api.ReserveRequest) (*api.Outcome, error) {
		close(called)
		<-ctx.Done()
		return nil, ctx.Err()
	}}, adminLog())
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	client := api.NewReservationServiceClient(dialAdmin(t, "unix:"+path, insecure.NewCredentials()))
	result := make(chan error, 1)
	go func() {
		_, err := client.Reserve(context.Background(), &api.ReserveRequest{Source: "::1", Destination: "::2", Class: "EF", Rate: 1})
		result <- err
	}()
	<-called
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Close(ctx)
	if err := <-result; err == nil {
		t.Error("the call succeeded")
	}
}

// testAuthority is a certificate authority for one test.
type testAuthority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestAuthority(t *testing.T, dir, name string) *testAuthority {
	a := &testAuthority{t: t, dir: dir}
	a.cert, a.key = a.issue(name, true)
	return a
}

// issue writes name.crt and name.key.
func (a *testAuthority) issue(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: ca,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(a.dir, name+ext), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *testAuthority) client(name string) credentials.TransportCredentials {
	a.t.Helper()
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(a.dir, "ca.crt"))
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		a.t.Fatal("ca.crt", err)
	}
	c := &tls.Config{RootCAs: pool}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(c)
}

func TestAdminRemote(t *testing.T) {
	dir := t.TempDir()
	ca := newTestAuthority(t, dir, "ca")
	other := newTestAuthority(t, dir, "other-ca")
	for _, name := range []string{"server", "alice", "bob", "carol"} {
		ca.issue(name, false)
	}
	other.issue("mallory", false)
	file := func(name string) string { return filepath.Join(dir, name) }
	config := AdminConfig{Remote: &RemoteConfig{
		Listen:      Listen{"tcp", "127.0.0.1:0"},
		Certificate: file("server.crt"), Key: file("server.key"), ClientCA: file("ca.crt"),
		Roles: []RemoteRole{{"alice", RoleOperate}, {"bob", RoleRead}, {"mallory", RoleOperate}},
	}}
	f := &adminFake{}
	a := startAdmin(t, config, f)
	try := func(name string) (read, operate error) {
		conn := dialAdmin(t, a.Addrs()[0].String(), ca.client(name))
		_, read = api.NewNodeServiceClient(conn).Status(t.Context(), &api.StatusRequest{})
		_, operate = api.NewSLSServiceClient(conn).Apply(t.Context(), &api.ApplyRequest{Yaml: []byte("x")})
		return read, operate
	}
	if read, operate := try("alice"); read != nil || operate != nil {
		t.Errorf("alice: %v, %v", read, operate)
	}
	if !strings.HasPrefix(f.applied, `cn "alice" at 127.0.0.1:`) {
		t.Errorf("applied by %q", f.applied)
	}
	read, operate := try("bob")
	if read != nil {
		t.Errorf("bob: %v", read)
	}
	wantStatus(t, operate, codes.PermissionDenied, "SLSService/Apply needs the role operate, and cn \"bob\" at 127.0.0.1:")
	read, operate = try("carol")
	wantStatus(t, read, codes.PermissionDenied, "under admin.remote.roles")
	wantStatus(t, operate, codes.PermissionDenied, "has none")
	for _, name := range []string{"mallory", ""} { // another authority's certificate, and none
		read, operate = try(name)
		wantStatus(t, read, codes.Unavailable, "")
		wantStatus(t, operate, codes.Unavailable, "")
	}
}

func TestAdminRemoteFiles(t *testing.T) {
	dir := t.TempDir()
	newTestAuthority(t, dir, "ca")
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, r := range map[string]RemoteConfig{
		"admin.remote: certificate " + file("no.crt"): {Certificate: file("no.crt"), Key: file("ca.key"), ClientCA: file("ca.crt")},
		"admin.remote.client_ca: open":                {Certificate: file("ca.crt"), Key: file("ca.key"), ClientCA: file("no.crt")},
		"has no certificate in PEM form":              {Certificate: file("ca.crt"), Key: file("ca.key"), ClientCA: file("empty")},
	} {
		r.Listen = Listen{"tcp", "127.0.0.1:0"}
		path := filepath.Join(socketDir(t), "s")
		err := NewAdmin(AdminConfig{Listen: Listen{"unix", path}, Remote: &r}, &adminFake{}, adminLog()).Start()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket was left behind: %v", err)
		}
	}
}
