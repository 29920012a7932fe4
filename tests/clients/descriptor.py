"""Compares host/proto/durabletask.proto with the descriptor in the published package durabletask.

Needs the packages durabletask and grpcio-tools. Each message must have the same fields (name, number, type, label, oneof), each
enumeration the same values, and the service the same calls.
"""

import pathlib
import subprocess
import sys
import tempfile

from durabletask.internal import orchestrator_service_pb2
from google.protobuf import descriptor_pb2

PROTO = pathlib.Path(__file__).resolve().parents[2] / "host" / "proto" / "durabletask.proto"


def ours():
    """Compiles our file with protoc."""
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={out}", PROTO.name]
        subprocess.run(command, check=True)
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    (file,) = described.file
    return file


def theirs():
    file = descriptor_pb2.FileDescriptorProto()
    orchestrator_service_pb2.DESCRIPTOR.CopyToProto(file)
    return file


def facts_of_enum(within, enum):
    name = f"{within}{enum.name}"
    yield f"enum {name}"
    for value in enum.value:
        yield f"{name}.{value.name} = {value.number}"


def facts_of_message(within, message):
    name = f"{within}{message.name}"
    yield f"message {name}"
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "-"
        kind = f"type {field.type} {field.type_name} label {field.label} optional {field.proto3_optional} oneof {oneof}"
        yield f"{name}.{field.name} = {field.number}: {kind}"
    for inner in message.nested_type:
        yield from facts_of_message(f"{name}.", inner)
    for enum in message.enum_type:
        yield from facts_of_enum(f"{name}.", enum)


def facts(file):
    """What a file says, one fact a line, independent of its order."""
    found = {f"syntax {file.syntax}", f"package {file.package!r}"}
    for message in file.message_type:
        found.update(facts_of_message("", message))
    for enum in file.enum_type:
        found.update(facts_of_enum("", enum))
    for service in file.service:
        for call in service.method:
            streams = f"{call.client_streaming} {call.server_streaming}"
            found.add(f"{service.name}.{call.name}: {call.input_type} -> {call.output_type}, streams {streams}")
    return found


def main():
    have, want = facts(ours()), facts(theirs())
    if len(want) < 500:
        sys.exit(f"the descriptor of the package has only {len(want)} facts; this comparison does not understand it")
    for fact in sorted(want - have):
        print(f"missing in {PROTO.name}: {fact}", file=sys.stderr)
    for fact in sorted(have - want):
        print(f"only in {PROTO.name}: {fact}", file=sys.stderr)
    if have != want:
        sys.exit(f"{PROTO.name} differs from the protocol of the package durabletask: correct it, then generate the code anew")
    print(f"  {len(have)} facts of the protocol are those of the package")


if __name__ == "__main__":
    main()
