"""gRPC: stubs of calc.proto, which grpcio-tools compiles on the way.

Several calls at once are futures: all that may be in flight, and then their answers.
"""

from __future__ import annotations

import itertools
from concurrent import futures
from typing import Any

from benchmarks.meter import PAYLOAD, Meter

_PROTO = "benchmarks/peers/calc.proto"


class GRPC:
    """Both ends from grpcio, the blocking API, with four threads in the server."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        import grpc

        messages, services = grpc.protos_and_services(_PROTO)

        class Calculator(services.CalculatorServicer):
            def AddNumbers(self, request: Any, _context: Any) -> Any:  # noqa: N802  # its name
                return messages.Sum(sum=request.n1 + request.n2)

            def Echo(self, request: Any, _context: Any) -> Any:  # noqa: N802  # its name
                return messages.Text(s=request.s)

        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        services.add_CalculatorServicer_to_server(Calculator(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        server.wait_for_termination()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        import grpc

        messages, services = grpc.protos_and_services(_PROTO)
        shape, tally = meter.shape, meter.tally()
        # Else all channels of a process share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        stubs = [
            services.CalculatorStub(grpc.insecure_channel(f"127.0.0.1:{port}", options=options))
            for _ in range(shape.connections)
        ]
        for stub in stubs:
            tally.check(5, stub.AddNumbers(messages.Numbers(n1=2, n2=3)).sum)
        meter.start()
        while shape.echo:
            tally.check(PAYLOAD, stubs[0].Echo(messages.Text(s=PAYLOAD)).s)
        while shape.in_flight == 1:
            n1, n2 = next(meter.pairs)
            tally.check(n1 + n2, stubs[0].AddNumbers(messages.Numbers(n1=n1, n2=n2)).sum)
        while True:
            waiting = []
            for stub in stubs:
                for n1, n2 in itertools.islice(meter.pairs, shape.in_flight):
                    future = stub.AddNumbers.future(messages.Numbers(n1=n1, n2=n2))
                    waiting.append((n1 + n2, future))
            for expected, answer in waiting:
                tally.check(expected, answer.result().sum)
