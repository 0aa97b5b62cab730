# Millions of small objects: strings and cells of an associative array, made and dropped again.
BEGIN {
    print "begin"
    fflush()
    sum = 0
    for (round = 0; round < rounds; round++) {
        for (i = 0; i < 40000; i++)
            cell["k" (i * 7919 % 65536)] = "value " i " of " round
        for (key in cell)
            sum = (sum * 31 + length(cell[key] key)) % 1000003
        if (round % 4 == 3)
            delete cell
    }
    print "result " sum
    fflush()
}
