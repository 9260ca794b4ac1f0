package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/interqos/interqos/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// adminRoles says what each method needs. A method that is not here needs
// operate.
var adminRoles = map[string]AdminRole{
	api.ReservationService_Reserve_FullMethodName: RoleOperate,
	api.ReservationService_Release_FullMethodName: RoleOperate,
	api.ReservationService_Modify_FullMethodName:  RoleOperate,
	api.ReservationService_Query_FullMethodName:   RoleRead,
	api.ReservationService_Watch_FullMethodName:   RoleRead,
	api.ReservationService_List_FullMethodName:    RoleRead,
	api.ReservationService_Get_FullMethodName:     RoleRead,
	api.SLSService_Apply_FullMethodName:           RoleOperate,
	api.SLSService_List_FullMethodName:            RoleRead,
	api.SLSService_Show_FullMethodName:            RoleRead,
	api.SLSService_Usage_FullMethodName:           RoleRead,
	api.SLSService_Delete_FullMethodName:          RoleOperate,
	api.SLSService_Plan_FullMethodName:            RoleRead,
	api.SLSService_History_FullMethodName:         RoleRead,
	api.SLSService_Rollback_FullMethodName:        RoleOperate,
	api.SLSService_Confirm_FullMethodName:         RoleOperate,
	api.SLSService_Backup_FullMethodName:          RoleOperate,
	api.SLSService_Match_FullMethodName:           RoleRead,
	api.SLSService_Calendar_FullMethodName:        RoleRead,
	api.NodeService_Status_FullMethodName:         RoleRead,
	api.NodeService_Routes_FullMethodName:         RoleRead,
	api.NodeService_Trace_FullMethodName:          RoleRead,
	api.NodeService_Reload_FullMethodName:         RoleOperate,
	api.NodeService_State_FullMethodName:          RoleRead,
}

// adminAccess says who may do what.
type adminAccess struct {
	users, groups map[uint32]AdminRole
	names         map[string]AdminRole
}

func newAccess(c AdminConfig) *adminAccess {
	a := &adminAccess{users: make(map[uint32]AdminRole), groups: make(map[uint32]AdminRole), names: make(map[string]AdminRole)}
	for _, one := range c.Allow {
		if one.UID != nil {
			a.users[*one.UID] = max(a.users[*one.UID], one.Role)
		}
		if one.GID != nil {
			a.groups[*one.GID] = max(a.groups[*one.GID], one.Role)
		}
	}
	// Root and the daemon's own user can do with the process what they like.
	a.users[0] = RoleOperate
	a.users[uint32(os.Geteuid())] = RoleOperate
	if c.Remote != nil {
		for _, r := range c.Remote.Roles {
			a.names[r.CommonName] = r.Role
		}
	}
	return a
}

// adminCaller is who calls: name for logs and histories, role what he may do, and
// grant where a role would be given.
type adminCaller struct {
	name  string
	role  AdminRole
	grant string
}

// peerCred is what the kernel says of the process at the other end of a Unix
// socket. It is the AuthInfo of such a connection.
type peerCred struct {
	credentials.CommonAuthInfo
	pid      int32
	uid, gid uint32
	groups   []uint32 // supplementary
}

// AuthType names the way in which the peer is known.
func (peerCred) AuthType() string { return "unix-peer-credentials" }

func (a *adminAccess) identify(p *peer.Peer) adminCaller {
	switch info := p.AuthInfo.(type) {
	case peerCred:
		role := max(a.users[info.uid], a.groups[info.gid])
		for _, gid := range info.groups {
			role = max(role, a.groups[gid])
		}
		return adminCaller{name: fmt.Sprintf("uid %d, gid %d", info.uid, info.gid), role: role, grant: "admin.allow"}
	case credentials.TLSInfo:
		if len(info.State.VerifiedChains) == 0 {
			break
		}
		name := info.State.VerifiedChains[0][0].Subject.CommonName
		c := adminCaller{name: fmt.Sprintf("cn %q at %s", name, p.Addr), grant: "admin.remote.roles"}
		if name != "" {
			c.role = a.names[name]
		}
		return c
	}
	return adminCaller{name: "a caller without credentials", grant: "admin.allow"}
}

type callerKey struct{}

// callerName says who calls, for histories.
func callerName(ctx context.Context) string {
	if c, ok := ctx.Value(callerKey{}).(adminCaller); ok {
		return c.name
	}
	return "unknown"
}

// intercept stands before every call: it knows who calls, refuses who may not,
// turns errors into statuses, and keeps a panic of one call from ending the
// node.
func (a *Admin) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()
	who, need, method, err := a.authorize(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, a.recovered(p, method)
		}
		err = toStatus(err)
		if need == RoleOperate && a.log.Enabled(ctx, slog.LevelInfo) {
			a.log.Info("admin call", "who", who.name, "method", method, "code", status.Code(err).String(), "took", time.Since(start))
		}
	}()
	return handler(context.WithValue(ctx, callerKey{}, who), req)
}

// authorize says who calls a method, and an error where he may not.
func (a *Admin) authorize(ctx context.Context, fullMethod string) (who adminCaller, need AdminRole, method string, err error) {
	who = adminCaller{name: "unknown", grant: "admin.allow"}
	if p, ok := peer.FromContext(ctx); ok {
		who = a.access.Load().identify(p)
	}
	need, known := adminRoles[fullMethod]
	if !known {
		need = RoleOperate
	}
	method = strings.TrimPrefix(fullMethod, "/interqos.v1.")
	if who.role < need {
		a.log.Warn("admin call refused", "who", who.name, "method", method, "role", who.role.String(), "needs", need.String())
		err = status.Errorf(codes.PermissionDenied, "%s needs the role %s, and %s has %s: whoever runs qned can give it in its configuration under %s",
			method, need, who.name, who.role, who.grant)
	}
	return who, need, method, err
}

// recovered keeps a panic of one call from ending the node.
func (a *Admin) recovered(p any, method string) error {
	a.log.Error("admin call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s: an error in qned itself, see its log", method)
}

// interceptStream is intercept for calls with many answers, which end with the API.
func (a *Admin) interceptStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	_, _, method, err := a.authorize(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-a.closing:
			cancel(status.Error(codes.Unavailable, "qned is stopping"))
		case <-ctx.Done():
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			err = a.recovered(p, method)
		}
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		err = toStatus(err)
	}()
	return handler(srv, &streamWith{stream, ctx})
}

// streamWith is a stream with another context.
type streamWith struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *streamWith) Context() context.Context { return s.ctx }

// toStatus gives a Backend's error the code that goes with its kind.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	for _, kind := range []struct {
		err  error
		code codes.Code
	}{
		{ErrNotFound, codes.NotFound},
		{ErrInvalid, codes.InvalidArgument},
		{ErrConflict, codes.FailedPrecondition},
		{ErrBusy, codes.ResourceExhausted},
		{ErrUnsupported, codes.Unimplemented},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
	} {
		if errors.Is(err, kind.err) {
			code = kind.code
			break
		}
	}
	return status.Error(code, err.Error())
}
