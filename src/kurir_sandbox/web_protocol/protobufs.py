"""The protobuf schemas of the WhatsApp Web wire, taken from neonize's wheel without loading its engine.

The generated modules import each other as top-level packages, so their folder goes on `sys.path`. `find_spec` finds
the folder without running `neonize/__init__.py`, which would load the shared library into this process.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neonize.proto.waAdv import WAAdv_pb2 as adv
    from neonize.proto.waCert import WACert_pb2 as cert
    from neonize.proto.waCompanionReg import WACompanionReg_pb2 as companion
    from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as e2e
    from neonize.proto.waServerSync import WAWebProtobufsServerSync_pb2 as server_sync
    from neonize.proto.waSyncAction import WAWebProtobufSyncAction_pb2 as sync_action
    from neonize.proto.waWa6 import WAWebProtobufsWa6_pb2 as wa6
else:
    _spec = importlib.util.find_spec("neonize")
    if _spec is None or not _spec.submodule_search_locations:
        raise ImportError("the sandbox needs neonize's protobuf schemas: install neonize")
    _folder = str(Path(_spec.submodule_search_locations[0]) / "proto")
    if _folder not in sys.path:
        sys.path.append(_folder)
    adv = importlib.import_module("waAdv.WAAdv_pb2")
    cert = importlib.import_module("waCert.WACert_pb2")
    companion = importlib.import_module("waCompanionReg.WACompanionReg_pb2")
    e2e = importlib.import_module("waE2E.WAWebProtobufsE2E_pb2")
    server_sync = importlib.import_module("waServerSync.WAWebProtobufsServerSync_pb2")
    sync_action = importlib.import_module("waSyncAction.WAWebProtobufSyncAction_pb2")
    wa6 = importlib.import_module("waWa6.WAWebProtobufsWa6_pb2")

__all__ = ["adv", "cert", "companion", "e2e", "server_sync", "sync_action", "wa6"]
