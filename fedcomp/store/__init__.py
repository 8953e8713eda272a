"""wip"""
__all__: list[str] = []
