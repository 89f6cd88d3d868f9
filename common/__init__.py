"""What the network and both sibling systems share: command line, files, devices; nothing here knows a network."""
