"""Tickets, ladders and backbones on disk: `codec` (tensors ↔ compact tensors), `files`, `folder`."""
