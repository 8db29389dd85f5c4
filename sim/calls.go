package sim

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

const (
	currentPackage = "dark_tower.internal.v1"
	legacyPackage  = "dark_tower.internal"
)

// underPackage rewrites a full method or service name of the current package to the legacy one
// when legacy is set. The messages of both packages are the same on the wire.
func underPackage(name string, legacy bool) string {
	if !legacy {
		return name
	}
	return strings.Replace(name, currentPackage+".", legacyPackage+".", 1)
}

// invoke calls a Dark Tower method at one replica, under the package name asked for.
func invoke(ctx context.Context, conn grpc.ClientConnInterface, method string, legacy bool, request, response proto.Message) error {
	return conn.Invoke(ctx, underPackage(method, legacy), request, response)
}
