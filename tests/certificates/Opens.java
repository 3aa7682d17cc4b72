import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;

/** Opens PKCS #12 files as a Java program does: lines of “path, password, length of the chain”, separated by tabs. */
class Opens {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] given = line.split("\t");
            System.out.println(given[0] + "\t" + outcome(given[0], given[1].toCharArray(), Integer.parseInt(given[2])));
        }
    }

    private static String outcome(String path, char[] password, int links) {
        try (FileInputStream file = new FileInputStream(path)) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(file, password);
            if (store.size() != 1) {
                return "has " + store.size() + " entries";
            }
            String alias = store.aliases().nextElement();
            if (!(store.getKey(alias, password) instanceof PrivateKey)) {
                return "has no private key";
            }
            Certificate[] chain = store.getCertificateChain(alias);
            return chain == null ? "has no chain" : chain.length != links ? "has " + chain.length + " links" : "ok";
        } catch (Exception problem) {
            return problem.toString();
        }
    }
}
