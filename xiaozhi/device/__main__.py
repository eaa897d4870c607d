from xiaozhi.device.cli import main

main()
