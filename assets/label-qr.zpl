^XA
^FX Keywright: as label.zpl, with a QR code.
^CI28
^PW320
^LL160
^FX Q: a quarter of the code may be unreadable. A: the printer finds out what kind of text it is.
^FO16,12^BQN,2,3^FH^FDQA,$code^FS
^FO140,22^A0N,26,24^FH^FD$serial^FS
^FO140,56^A0N,18,16^FH^FD$model rev. $hw_revision^FS
^FO140,80^A0N,18,16^FH^FD$part_number^FS
^FO140,104^A0N,18,16^FH^FD$date  $batch^FS
^FO140,128^A0N,16,14^FH^FD$anchor^FS
^XZ
