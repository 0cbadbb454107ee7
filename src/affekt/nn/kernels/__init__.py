"""C++ sources of the fused modules, compiled when they are first used."""
