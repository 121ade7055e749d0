from kexport.cli import main

main()
