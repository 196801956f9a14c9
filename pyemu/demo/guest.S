# SPDX-License-Identifier: MIT
#
# The demo's guest: a small 32-bit program for board via-pc, entered by the Linux boot protocol.
#
#   1. says hello on COM1 at 0x3f8
#   2. opens the VT82C686B's SuperIO configuration (PCI 0:7.0, register 0x85 bit 1), moves COM1
#      to 0x2e8 (index 0xe7), checks that 0x3f8 is empty and says so at the new place
#   3. fills 16 MiB with a pattern, then for ever: walks over 1024 pages, checks in each that the
#      last walk's number is there, writes the new one, and counts the walks
#
# The walk is what makes a live save hard (4 MiB are dirtied again and again) and what proves a
# restore right: one page from another moment, and the guest reports it.

        .set    COM1,        0x3f8
        .set    COM1_MOVED,  0x2e8
        .set    COUNTER,     0x00200000         # number of finished walks
        .set    FILL,        0x00400000
        .set    FILL_WORDS,  16 << 18
        .set    PAGES,       0x01800000
        .set    PAGE_COUNT,  1024
        .set    HEARTBEAT,   256                # walks between two lines of output
        .set    STACK,       0x00180000

        .code32
        .section .text
        .globl  _start
_start:
        .org    0x1f1
        .byte   1                               # setup sectors after the boot sector
        .org    0x1fe
        .word   0xaa55
        .byte   0xeb, 0x66                      # jump over the header; its target ends the header
        .ascii  "HdrS"
        .word   0x020c                          # boot protocol 2.12
        .org    0x211
        .byte   0x01                            # loads high
        .org    0x214
        .long   0x00100000                      # 32-bit entry
        .org    0x22c
        .long   0x7fffffff                      # highest address for an initial RAM disk
        .org    0x238
        .long   255                             # longest command line

        .org    0x400
entry:
        mov     $STACK, %esp
        cld
        mov     $COM1, %ebp
        mov     $hello, %esi
        call    puts

        mov     $0x80003884, %eax               # 0:7.0, dword of register 0x85
        mov     $0xcf8, %edx
        out     %eax, %dx
        mov     $0xcfd, %edx                    # lane 1: register 0x85
        in      %dx, %al
        or      $0x02, %al
        out     %al, %dx
        mov     $0x3f0, %edx
        mov     $0xe7, %al
        out     %al, %dx
        inc     %edx
        mov     $(COM1_MOVED >> 2), %al
        out     %al, %dx
        mov     $0xcfd, %edx                    # close the configuration ports again
        in      %dx, %al
        and     $0xfd, %al
        out     %al, %dx

        mov     $COM1_MOVED, %ebp
        mov     $moved, %esi
        call    puts
        mov     $(COM1 + 5), %edx
        in      %dx, %al
        mov     $empty, %esi
        cmp     $0xff, %al
        je      1f
        mov     $ghost, %esi
1:      call    puts

        mov     $FILL, %edi
        mov     $FILL_WORDS, %ecx
        mov     $0x2545f491, %eax
2:      imul    $1664525, %eax
        add     $1013904223, %eax
        stosl
        loop    2b
        mov     $ready, %esi
        call    puts

        xor     %ebx, %ebx                      # finished walks
walk:
        mov     $PAGES, %edi
        mov     $PAGE_COUNT, %ecx
3:      cmp     %ebx, (%edi)
        jne     corrupt
        lea     1(%ebx), %eax
        mov     %eax, (%edi)
        add     $4096, %edi
        loop    3b
        inc     %ebx
        mov     %ebx, COUNTER
        test    $(HEARTBEAT - 1), %ebx
        jnz     walk
        mov     $beat, %esi
        call    puts
        mov     %ebx, %eax
        call    put_hex
        mov     $newline, %esi
        call    puts
        jmp     walk

corrupt:
        mov     $wrong, %esi
        call    puts
        mov     %edi, %eax
        call    put_hex
        mov     $newline, %esi
        call    puts
        cli
        hlt
        jmp     corrupt

# Writes the string at esi to the UART at ebp.
puts:   lodsb
        test    %al, %al
        jz      4f
        call    putc
        jmp     puts
4:      ret

# Writes eax as eight digits.
put_hex:
        mov     %eax, %esi
        push    %ecx
        mov     $8, %ecx
5:      rol     $4, %esi
        mov     %esi, %eax
        and     $0x0f, %eax
        mov     digits(%eax), %al
        call    putc
        loop    5b
        pop     %ecx
        ret

# Writes al once the transmitter is empty.
putc:   push    %eax
        lea     5(%ebp), %edx
6:      in      %dx, %al
        test    $0x20, %al
        jz      6b
        pop     %eax
        mov     %ebp, %edx
        out     %al, %dx
        ret

hello:  .asciz  "guest: hello from COM1 at 0x3f8\r\n"
moved:  .asciz  "guest: COM1 is at 0x2e8 now\r\n"
empty:  .asciz  "guest: nothing answers at 0x3f8 any more\r\n"
ghost:  .asciz  "guest: ERROR: 0x3f8 still answers\r\n"
ready:  .asciz  "guest: 16 MiB filled, walking over 1024 pages\r\n"
beat:   .asciz  "guest: walks 0x"
wrong:  .asciz  "guest: ERROR: page from another moment at 0x"
newline:.asciz  "\r\n"
digits: .ascii  "0123456789abcdef"
