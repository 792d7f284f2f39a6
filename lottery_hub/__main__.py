"""`python -m lottery_hub`: the command line, where it is started as a module, by torchrun for one."""

from lottery_hub.cli import main  # type: ignore[import-not-found]  # which lies beside this package

if __name__ == "__main__":
    main()
