"""What outlast does on a GPU, checked and measured in one command: `make check-gpu`."""
