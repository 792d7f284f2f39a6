"""Small backbones and ladders that ship with the library, one folder each; see `storage.folder`."""
