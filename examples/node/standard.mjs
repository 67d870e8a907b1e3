// What every gRPC server has, and so what a client may know before it has asked: reflection, health, and the details of an
// error. All else is learned from the server.

import { loadPackageDefinition } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';
import protobuf from 'protobufjs';

const FILES = [
  `syntax = "proto3";
  package grpc.reflection.v1alpha;

  service ServerReflection {
    rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
  }
  message ServerReflectionRequest {
    oneof message_request {
      string file_by_filename = 3;
      string file_containing_symbol = 4;
    }
  }
  message ServerReflectionResponse {
    oneof message_response {
      FileDescriptorResponse file_descriptor_response = 4;
      ErrorResponse error_response = 7;
    }
  }
  message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
  message ErrorResponse { int32 error_code = 1; string error_message = 2; }`,

  `syntax = "proto3";
  package grpc.health.v1;

  service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
  message HealthCheckRequest { string service = 1; }
  message HealthCheckResponse {
    enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
    ServingStatus status = 1;
  }`,

  `syntax = "proto3";
  package google.rpc;

  message Any { string type_url = 1; bytes value = 2; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
  message BadRequest {
    message FieldViolation { string field = 1; string description = 2; }
    repeated FieldViolation field_violations = 1;
  }
  message PreconditionFailure {
    message Violation { string type = 1; string subject = 2; string description = 3; }
    repeated Violation violations = 1;
  }
  message QuotaFailure {
    message Violation { string subject = 1; string description = 2; }
    repeated Violation violations = 1;
  }
  message RequestInfo { string request_id = 1; string serving_data = 2; }`,
];

// How messages become objects: names as in the API, 64 bits as a number, bytes as base64, and no field left out.
const NAMES = { keepCase: true, longs: Number, enums: String, defaults: true };
export const STYLE = { ...NAMES, bytes: String };

const root = new protobuf.Root();
for (const text of FILES) protobuf.parse(text, root, { keepCase: true });
root.resolveAll();

const loaded = loadPackageDefinition(fromJSON(root.toJSON(), NAMES));
export const { ServerReflection } = loaded.grpc.reflection.v1alpha;
export const { Health } = loaded.grpc.health.v1;

// What an error says beside its code and message: [{'@type': 'google.rpc.ErrorInfo', reason: ...}, ...]
export function detailsOf(error) {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!packed) return [];
  return root.lookupType('google.rpc.Status').decode(packed).details.map(({ type_url, value }) => {
    const name = type_url.split('/').at(-1);
    const type = root.lookup(name);
    const said = type instanceof protobuf.Type ? type.toObject(type.decode(value), { longs: Number }) : {};
    return { '@type': name, ...said };
  });
}
