"""What every room uses, and what knows none of them: errors, frozen values, strict JSON, files.

Four modules stand in for slow ones of the standard library, on the path of ADD, DEL and REPAIR, for
which a pod waits; each says what it buys: frozen (dataclasses), strictjson (json), lightsocket
(socket) and closeable (contextlib). cni/delegate, which starts processes, does so without
subprocess. Everywhere else use the standard library.
"""
